#!/usr/bin/env nextflow
// Checks what can be checked without a task, then runs the one workflow. The stages are wired in modules/annotate/.

nextflow.preview.topic = true   // software versions travel on a topic channel; needs no flag from 25.04 on

include { ANNOTATE } from './modules/annotate'
include { MULTIQC  } from './modules/local/multiqc'

workflow {
    def schema = new groovy.json.JsonSlurper().parseText(file("${projectDir}/nextflow_schema.json").text)
    def wrong = params.help || params.version ? [] : problems(schema, params, workflow.profile.tokenize(','))
    if (wrong) {
        error(wrong.join('\n'))
    }
    if (params.version) {
        log.info("${workflow.manifest.name} ${workflow.manifest.version}")
    }
    else if (params.help) {
        log.info(help(schema))
    }
    else {
        def known = properties(schema).keySet()
        def given = params.findAll { name, value -> name in known && value != null }
        def sheet = params.input ? file(params.input, glob: false) : []
        // relative paths in a sheet start at the sheet, else where the run was started
        def folders = (sheet ? [sheet.parent.toUriString()] : []) + [workflow.launchDir.toUriString()]

        ANNOTATE(groovy.json.JsonOutput.toJson(given), sheet, folders)

        def results = file(params.outdir).toUriString()
        ANNOTATE.out.inputs.join(ANNOTATE.out.outs.map { meta, files -> [meta.id, files] })
            .map { id, matrix, models, files -> annotated(results, id, matrix, models, files).collect { text -> cell(text) }.join(',') }
            .collectFile(storeDir: params.outdir, name: 'samplesheet_annotated.csv', seed: annotated().join(','), sort: true, newLine: true)

        if (params.multiqc) {
            MULTIQC(ANNOTATE.out.outs.flatMap { _meta, files -> files.findAll { file -> file.name.contains('_mqc') } }
                .toSortedList { one, other -> one.name <=> other.name }
                .filter { found -> found })
        }

        channel.topic('versions')
            .unique()
            .map { process, tool, version -> "${process.tokenize(':').last()}:\n  ${tool}: ${version}" }
            .mix(channel.of("Workflow:\n  ${workflow.manifest.name}: ${workflow.manifest.version}\n  Nextflow: ${workflow.nextflow.version}".toString()))
            .collectFile(storeDir: "${params.outdir}/pipeline_info", name: 'software_versions.yml', sort: true, newLine: true)

        def outdir = params.outdir
        workflow.onComplete { farewell(outdir) }
    }
}

// A row of samplesheet_annotated.csv, with the places where files are published; without arguments, its header.
def annotated(results = null, id = null, matrix = null, models = null, files = null) {
    if (!id) {
        return ['sample', 'matrix', 'model', 'cell_types', 'differential_expression', 'h5ad', 'spatialdata', 'web_summary', 'metrics']
    }
    def places = files.collect { file -> file.toUriString() }.collect { path -> path.substring(path.lastIndexOf('/outs/') + 6) }
    def model = models.find { folder -> places.contains("cell_types/${folder}/cell_types.csv".toString()) }
    def wanted = ["cell_types/${model}/cell_types.csv", "cell_types/${model}/cell_annotation_differential_expression.csv"]
    return [id, matrix.toUriString(), model] + (wanted + ['annotated.h5ad', 'annotated.zarr', 'web_summary_cell_types.html', 'metrics.json']).collect { place ->
        places.any { path -> path == place.toString() || path.startsWith("${place}/") } ? "${results}/${id}/outs/${place}" : ''
    }
}

def cell(text) {
    text =~ /[",\n]/ ? "\"${text.replace('"', '""')}\"" : text
}

def farewell(results) {
    log.info(workflow.success ? "Results: ${results}/<sample>/outs" : 'Stopped. Correct what is wrong, then run again with -resume.')
    if (workflow.stats.ignoredCount) {
        log.warn('10x Cloud failed on some samples: what else was found is there. Run again with -resume to try again.')
    }
}

def properties(schema) {
    schema['$defs'].collectEntries { _name, group -> group.properties }
}

// Everything wrong that shows without opening a file; the first task checks the rest.
def problems(schema, given, profiles) {
    def known = properties(schema)
    def foreign = schema.patternProperties.keySet().first()
    // Nextflow adds a camelCase twin of each name with a hyphen
    def strange = given.keySet().findAll { name -> !(name in known) }
        .collect { name -> name.replace('-', '_').replaceAll(/([a-z0-9])([A-Z])/, '$1_$2').toLowerCase() }.unique()
        .findAll { name -> !(name =~ foreign) }
    def wanted = [awsbatch: 'aws_queue', google_batch: 'google_project', k8s: 'k8s_storage_claim'].subMap(profiles).values() + 'outdir'
    def missing = wanted.findAll { name -> !given[name] }
    def absent = known.findAll { name, rule -> rule.exists && given[name] && !file("${given[name]}", glob: false).exists() }
    return strange.collect { name -> "Unknown parameter --${name in known ? "${name.replace('_', '-')}: write --${name}" : name}. See --help." } +
        missing.collect { name -> "Missing parameter --${name}: ${known[name].description}" } +
        (given.input || (given.id && given.matrix) ? [] : ['Missing parameter --input (a sample sheet), or --id and --matrix.']) +
        absent.collect { name, _rule -> "--${name}: there is no ${given[name]}" }
}

def help(schema) {
    def groups = schema['$defs'].collect { _name, group ->
        def lines = group.properties.collect { name, rule ->
            "  --${name.padRight(22)} ${rule.description}${rule.default in [null, '', false] ? '' : " [${rule.default}]"}"
        }
        "${group.title}\n${lines.join('\n')}"
    }
    return "nextflow run ${workflow.manifest.name} --input samplesheet.csv --outdir results\n\n${groups.join('\n\n')}"
}
