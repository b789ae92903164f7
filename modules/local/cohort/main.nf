process COHORT {
    label 'process_single'

    input:
    path metrics, stageAs: 'samples/?/*'   // metrics.json of each sample

    output:
    path "cohort_summary.html",    emit: page
    path "cohort_composition.csv", emit: composition

    script:
    """
    cytonym cohort samples/* --output .
    """

    stub:
    "touch cohort_summary.html cohort_composition.csv"
}
