process ASSIGN {
    tag "${meta.id}:${meta.model}"
    label 'process_low'

    input:
    tuple val(meta), path(plan), path(fitted), path(evidence), path(predictions)
    // meta: [id, model, folder]; evidence: goes along beside fitted; predictions in the order of the cells

    output:
    tuple val(meta), path("${meta.folder}"), emit: cell_types   // cell_types.csv, model_metrics.json, evidence

    script:
    """
    cytonym assign --plan ${plan} --model ${meta.model} --fitted ${fitted} --predictions ${predictions} --output-dir ${meta.folder}
    """

    stub:
    "mkdir ${meta.folder} && touch ${meta.folder}/cell_types.csv ${meta.folder}/model_metrics.json"
}
