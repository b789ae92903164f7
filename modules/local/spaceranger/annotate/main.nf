process SPACERANGER_ANNOTATE {
    tag "$meta.id"
    label 'process_high'

    conda "${moduleDir}/environment.yml"
    container "docker.io/cytonym/cytonym:0.1.0"

    input:
    tuple val(meta), path(outs, stageAs: 'outs/?/*')
    path  models_dir
    path  tenx_cloud_token, stageAs: 'token/*'

    output:
    tuple val(meta), path("${prefix}/outs/**")                                                           , emit: outs
    tuple val(meta), path("${prefix}/outs/cell_types/*/cell_types.csv")                                  , emit: cell_types
    tuple val(meta), path("${prefix}/outs/cell_types/*/cell_annotation_differential_expression.csv")     , emit: diffexp    , optional: true
    tuple val(meta), path("${prefix}/outs/web_summary_cell_types.html")                                  , emit: web_summary, optional: true
    tuple val("${task.process}"), val('cytonym'), eval("cytonym --version | sed 's/.* //'")              , emit: versions_cytonym, topic: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args   = task.ext.args ?: ''
    prefix     = task.ext.prefix ?: "${meta.id}"
    def id     = "${task.ext.prefix ?: meta.id}".replaceAll(/[^A-Za-z0-9_-]/, '_').take(64)
    def models = "--models-dir ${models_dir ?: '.'}" // without a folder none is searched, not even one under HOME
    def token  = tenx_cloud_token ? "--tenx-cloud-token-path ${tenx_cloud_token}" : ''
    def memory = task.memory ? "--localmem ${task.memory.toGiga()}" : ''
    // count emits the files of its outs folder one by one, several of one name: where a file came from tells which it is
    def files  = [outs].flatten()
    def wanted = [
        'segmented_outputs/filtered_feature_cell_matrix.h5',
        'binned_outputs/square_008um/filtered_feature_bc_matrix.h5',
        'outs/filtered_feature_bc_matrix.h5',
    ]
    def matrix = files.size() == 1 ? files.first() : wanted.findResult { name -> files.find { file -> file.toRealPath().toString().endsWith("/${name}") } }
    if (!matrix) {
        error("SPACERANGER_ANNOTATE: the outs of ${meta.id} hold none of ${wanted.join(', ')}")
    }
    """
    cytonym annotate \\
        --id ${id} \\
        --matrix ${matrix} \\
        --output-dir ${prefix} \\
        --localcores ${task.cpus} \\
        ${memory} \\
        ${models} \\
        ${token} \\
        ${args}
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir -p ${prefix}/outs/cell_types/Markers
    touch ${prefix}/outs/cell_types/Markers/cell_types.csv
    touch ${prefix}/outs/cell_types/Markers/cell_annotation_differential_expression.csv
    touch ${prefix}/outs/web_summary_cell_types.html
    touch ${prefix}/outs/loupe_cell_types.csv
    touch ${prefix}/outs/metrics.json
    touch ${prefix}/outs/provenance.json
    """
}
