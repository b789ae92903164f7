process DIFFEXP {
    tag "${meta.id}:${meta.model}"
    label 'process_medium'

    input:
    tuple val(meta), path(matrix, stageAs: 'sample/*'), path(plan), path(cell_types, stageAs: 'assigned')   // meta: [id, model, folder]

    output:
    tuple val(meta), path("${meta.folder}"), emit: diffexp   // the table; empty when there are fewer than two groups

    script:
    """
    mkdir ${meta.folder}
    cytonym diffexp --matrix ${matrix} --plan ${plan} --cell-types ${cell_types}/cell_types.csv --threads ${task.cpus} --output ${meta.folder}/cell_annotation_differential_expression.csv
    """

    stub:
    "mkdir ${meta.folder} && touch ${meta.folder}/cell_annotation_differential_expression.csv"
}
