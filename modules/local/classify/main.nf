process CLASSIFY {
    tag "${meta.id}:${meta.model}:${meta.partition}"
    label 'process_medium'

    input:
    tuple val(meta), path(matrix, stageAs: 'sample/*'), path(plan), path(fitted), path(models_dir, stageAs: 'models/*'), path(bundles, stageAs: 'bundles/?/*')
    // meta: [id, model, partition]; models_dir and bundles are for references, whose folders hold what is too large to copy

    output:
    tuple val(meta), path("predictions_${meta.partition}.h5"), emit: predictions

    script:
    def folders = (["--models-dir ${models_dir ?: '.'}"] + [bundles].flatten().collect { folder -> "--bundle ${folder}" }).join(' ')
    """
    cytonym classify --matrix ${matrix} --plan ${plan} --model ${meta.model} --fitted ${fitted} ${folders} --partition ${meta.partition} --threads ${task.cpus} --output predictions_${meta.partition}.h5
    """

    stub:
    "touch predictions_${meta.partition}.h5"
}
