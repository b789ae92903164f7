process VALIDATE {
    label 'process_single'

    input:
    stdin        // all parameters, as JSON
    path sheet   // [] when --id and --matrix name the one sample

    output:
    path "samples.valid.json", emit: samples
    path ".command.err",       emit: messages
    tuple val("${task.process}"), val('cytonym'), eval("cytonym --version | sed 's/.* //'"), topic: versions

    script:
    """
    cytonym validate --params - ${sheet ? "--sheet ${sheet}" : ''} --output samples.valid.json
    """

    stub: // the same: a stub run checks its parameters and sheet too
    """
    cytonym validate --params - ${sheet ? "--sheet ${sheet}" : ''} --output samples.valid.json
    """
}
