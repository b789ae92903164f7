process EXPORT {
    tag "${meta.id}"
    label 'process_low'

    input:
    tuple val(meta), path(matrix, stageAs: 'sample/*'), path(plan), path(tables, stageAs: 'tables/*'), path(placed), val(roles), path(beside, stageAs: 'beside/?/*')
    // meta: [id]; tables: the models' folders; roles: of the files beside the matrix, in order

    output:
    tuple val(meta), path("exported/*"), emit: files   // annotated.h5ad, annotated.zarr, as the plan wants

    script:
    def files = [roles, [beside].flatten()].transpose().collect { role, file -> "--beside ${role}=${file}" }.join(' ')
    """
    cytonym export --matrix ${matrix} --plan ${plan} --cell-types-dir tables --places ${placed}/places.h5 ${files} --output-dir exported
    """

    stub:
    "mkdir exported && touch exported/annotated.h5ad"
}
