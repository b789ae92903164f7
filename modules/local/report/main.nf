process REPORT {
    tag "${meta.id}"
    label 'process_low'

    input:
    tuple val(meta), path(plan), path(tables, stageAs: 'tables/?/*'), path(placed), path(loupe), path(more, stageAs: 'more/*'), val(roles), path(beside, stageAs: 'beside/?/*'), val(command)
    // meta: [id]; tables: the models' folders, of ASSIGN and of DIFFEXP; loupe: of CLOUPE; more: further files of outs/; roles: of the files beside the matrix, in order; command: quoted for the shell

    output:
    tuple val(meta), path("outs/**"), emit: outs

    script:
    def files = [roles, [beside].flatten()].transpose().collect { role, file -> "--beside ${role}=${file}" }.join(' ')
    """
    mkdir -p outs/cell_types
    for tables in tables/* ${placed}/cell_types; do cp -rL "\$tables"/. outs/cell_types; done
    if [ -d more ]; then cp -rL more/* outs; fi
    cytonym report --plan ${plan} --cell-types-dir outs/cell_types --output-dir outs --places ${placed}/places.h5 ${loupe ? "--loupe ${loupe}" : ''} ${files} --cmdline ${command}
    """

    stub:
    """
    mkdir -p outs/cell_types
    for tables in tables/*; do cp -rL "\$tables"/. outs/cell_types; done
    if [ -d more ]; then cp -L more/* outs; fi
    touch outs/web_summary_cell_types.html outs/loupe_cell_types.csv outs/metrics.json outs/provenance.json outs/${meta.id}_cytonym_mqc.json
    """
}
