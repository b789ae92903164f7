process MULTIQC {
    label 'process_single'

    conda "${moduleDir}/environment.yml"
    container 'multiqc/multiqc:v1.35'

    input:
    path files, stageAs: '?/*'   // what MultiQC shall find

    output:
    path "*multiqc_report.html", emit: report
    path "*_data",               emit: data
    tuple val("${task.process}"), val('multiqc'), eval("multiqc --version | sed 's/.* //'"), topic: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ? "--filename ${task.ext.prefix}_multiqc_report.html" : ''
    """
    multiqc --force --no-version-check ${args} ${prefix} .
    """

    stub:
    def prefix = task.ext.prefix ? "${task.ext.prefix}_" : ''
    """
    mkdir ${prefix}multiqc_data
    touch ${prefix}multiqc_report.html
    """
}
