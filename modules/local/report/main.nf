process REPORT {
    tag "${meta.id}"
    label 'process_low'

    input:
    tuple val(meta), path(plan), path(tables, stageAs: 'tables/?/*'), val(command)
    // meta: [id]; tables: the models' folders, of ASSIGN and of DIFFEXP; command: quoted for the shell

    output:
    tuple val(meta), path("outs/**"), emit: outs

    script:
    """
    mkdir -p outs/cell_types
    for tables in tables/*; do cp -rL "\$tables"/. outs/cell_types; done
    cytonym report --plan ${plan} --cell-types-dir outs/cell_types --output-dir outs --cmdline ${command}
    """

    stub:
    """
    mkdir -p outs/cell_types
    for tables in tables/*; do cp -rL "\$tables"/. outs/cell_types; done
    touch outs/web_summary_cell_types.html outs/loupe_cell_types.csv outs/metrics.json outs/provenance.json
    """
}
