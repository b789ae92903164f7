process CLASSIFY {
    tag "${meta.id}:${meta.model}:${meta.partition}"
    label 'process_medium'

    input:
    tuple val(meta), path(matrix, stageAs: 'sample/*'), path(plan), path(fitted)   // meta: [id, model, partition]

    output:
    tuple val(meta), path("predictions_${meta.partition}.h5"), emit: predictions

    script:
    """
    cytonym classify --matrix ${matrix} --plan ${plan} --model ${meta.model} --fitted ${fitted} --partition ${meta.partition} --threads ${task.cpus} --output predictions_${meta.partition}.h5
    """

    stub:
    "touch predictions_${meta.partition}.h5"
}
