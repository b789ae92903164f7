process FIT {
    tag "${meta.id}:${meta.model}"
    label 'process_medium'

    input:
    tuple val(meta), path(matrix, stageAs: 'sample/*'), path(plan), path(models_dir, stageAs: 'models/*'), path(bundles, stageAs: 'bundles/?/*'), path(token, stageAs: 'token/*'), val(record)
    // meta: [id, model]; bundles: folders of references; token and record are for models of 10x Cloud: record is where a try leaves how far it has come

    output:
    tuple val(meta), path("fitted.h5"), path("*.json.gz", arity: '0..*'), emit: fitted   // with the model's evidence, if it has any

    script:
    def models = "--models-dir ${models_dir ?: '.'}"   // without a folder none is searched, not even one under HOME
    def folders = [bundles].flatten().collect { folder -> "--bundle ${folder}" }.join(' ')
    def cloud = [token ? "--tenx-cloud-token-path ${token}" : '', record ? "--cloud-record '${record}'" : ''].join(' ')
    """
    cytonym fit --matrix ${matrix} --plan ${plan} --model ${meta.model} ${models} ${folders} ${cloud} --output fitted.h5
    """

    stub:
    "touch fitted.h5"
}
