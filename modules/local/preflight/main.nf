process PREFLIGHT {
    tag "${meta.id}"
    label 'process_low'

    input:
    tuple val(meta), path(matrix, stageAs: 'sample/*'), path(cloupe, stageAs: 'cloupe/*'), path(models_dir, stageAs: 'models/*'), val(names), path(bundles, stageAs: 'bundles/?/*'), path(token, stageAs: 'token/*'), path(markers, stageAs: 'markers/*'), val(roles), path(beside, stageAs: 'beside/?/*'), val(options)
    // meta: [id]; names: of models, quoted, null where the next one of bundles, folders of references, is meant; token: of 10x Cloud; roles: of the files beside the matrix, in order; options: further options of the command, quoted for the shell

    output:
    tuple val(meta), path("plan.json"), path("*.h5", arity: '0..*'), emit: plan   // with matrix.h5 when it was not a 10x HDF5 file

    script:
    def loupe = cloupe ? "--cloupe ${cloupe}" : ''
    def models = "--models-dir ${models_dir ?: '.'}"   // without a folder none is searched, not even one under HOME
    def folders = [bundles].flatten().iterator()
    def named = names ? "--cell-annotation-model ${names.collect { name -> name ?: "${folders.next()}" }.join(',')}" : ''
    def cloud = token ? "--tenx-cloud-token-path ${token}" : ''
    def types = markers ? "--markers ${markers}" : ''
    def files = [roles, [beside].flatten()].transpose().collect { role, file -> "--beside ${role}=${file}" }.join(' ')
    """
    cytonym preflight --id ${meta.id} --matrix ${matrix} ${loupe} ${models} ${named} ${cloud} ${types} ${files} ${options} --output-dir .
    """

    stub:
    """
    echo '{"jobs": [{"card": {"name": "markers", "folder": "Markers"}}], "partitions": [{"index": 0}], "skip": [], "alerts": [], "notes": []}' > plan.json
    """
}
