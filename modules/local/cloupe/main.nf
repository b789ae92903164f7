process CLOUPE {
    tag "${meta.id}"
    label 'process_low'

    input:
    tuple val(meta), path(plan), path(tables, stageAs: 'tables/*'), path(cloupe, stageAs: 'sample/*'), path(tools, stageAs: 'tools/*')
    // meta: [id]; tables: the models' folders; tools: folder of 10x Genomics' programs, [] for those on PATH

    output:
    tuple val(meta), path("loupe"), path("*.cloupe", arity: '0..*'), emit: loupe   // alerts and projection; with the programs the .cloupe with types

    script:
    """
    cytonym cloupe --plan ${plan} --cell-types-dir tables --cloupe ${cloupe} ${tools ? "--loupe-tools ${tools}" : ''} --output-dir loupe
    find loupe -name '*.cloupe' -exec mv {} . \\;
    """

    stub:
    "mkdir loupe && echo '[]' > loupe/alerts.json && touch cell_annotation_sample_cloupe.cloupe"
}
