// Annotation as a part of counting, as an nf-core pipeline would include it. The count is a stand-in whose output is
// declared as in nf-core/modules spaceranger/count: all files of the outs folder, several of one name.

nextflow.preview.topic = true

include { SPACERANGER_ANNOTATE } from '../../../modules/local/spaceranger/annotate'

process SPACERANGER_COUNT {
    tag "$meta.id"

    input:
    tuple val(meta), path(cells)

    output:
    tuple val(meta), path("**/outs/**"), emit: outs

    script:
    """
    mkdir -p ${meta.id}/outs/segmented_outputs ${meta.id}/outs/binned_outputs/square_0{02,08,16}um
    cp -L ${cells} ${meta.id}/outs/segmented_outputs/filtered_feature_cell_matrix.h5
    for bins in ${meta.id}/outs/binned_outputs/*; do echo "not the cells" > \$bins/filtered_feature_bc_matrix.h5; done
    touch ${meta.id}/outs/web_summary.html
    """
}

workflow {
    SPACERANGER_COUNT(channel.of([[id: 'S.1'], file(params.cells)]))
    SPACERANGER_ANNOTATE(SPACERANGER_COUNT.out.outs, [], [])
    channel.topic('versions').map { row -> row.join(' ') }.collectFile(name: 'versions.txt', storeDir: params.outdir, newLine: true)
}
