process PLACE {
    tag "${meta.id}"
    label 'process_low'

    input:
    tuple val(meta), path(matrix, stageAs: 'sample/*'), path(plan), path(tables, stageAs: 'tables/*'), val(roles), path(beside, stageAs: 'beside/?/*'), path(loupe)
    // meta: [id]; tables: the models' folders; roles: of the files beside the matrix, in order; loupe: of CLOUPE

    output:
    tuple val(meta), path("placed"), emit: placed   // places.h5, and in cell_types/ each model's tissue files

    script:
    def files = [roles, [beside].flatten()].transpose().collect { role, file -> "--beside ${role}=${file}" }.join(' ')
    """
    cytonym place --matrix ${matrix} --plan ${plan} --cell-types-dir tables ${files} ${loupe ? "--loupe ${loupe}" : ''} --output-dir placed
    """

    stub:
    "mkdir -p placed/cell_types && touch placed/places.h5"
}
