process CONSENSUS {
    tag "${meta.id}"
    label 'process_low'

    input:
    tuple val(meta), path(plan), path(tables, stageAs: 'tables/*')   // meta: [id, folder]; tables: the models' folders

    output:
    tuple val(meta), path("${meta.folder}"), emit: cell_types   // cell_types.csv, model_metrics.json

    script:
    """
    cytonym consensus --plan ${plan} --cell-types-dir tables --output-dir ${meta.folder}
    """

    stub:
    "mkdir ${meta.folder} && touch ${meta.folder}/cell_types.csv ${meta.folder}/model_metrics.json"
}
