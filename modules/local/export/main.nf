process EXPORT {
    tag "${meta.id}"
    label 'process_low'

    input:
    tuple val(meta), path(matrix, stageAs: 'sample/*'), path(plan), path(tables, stageAs: 'tables/*'), path(placed)   // meta: [id]

    output:
    tuple val(meta), path("annotated.h5ad"), emit: h5ad

    script:
    """
    cytonym export --matrix ${matrix} --plan ${plan} --cell-types-dir tables --places ${placed}/places.h5 --output annotated.h5ad
    """

    stub:
    "touch annotated.h5ad"
}
