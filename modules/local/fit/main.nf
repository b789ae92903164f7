process FIT {
    tag "${meta.id}:${meta.model}"
    label 'process_medium'

    input:
    tuple val(meta), path(matrix, stageAs: 'sample/*'), path(plan), path(models_dir, stageAs: 'models/*')   // meta: [id, model]

    output:
    tuple val(meta), path("fitted.h5"), emit: fitted

    script:
    def models = "--models-dir ${models_dir ?: '.'}"   // without a folder none is searched, not even one under HOME
    """
    cytonym fit --matrix ${matrix} --plan ${plan} --model ${meta.model} ${models} --output fitted.h5
    """

    stub:
    "touch fitted.h5"
}
