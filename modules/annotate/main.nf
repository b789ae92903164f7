// The stages and how they meet: nothing is wired anywhere else. Comments show a channel's element.

include { VALIDATE  } from '../local/validate'
include { PREFLIGHT } from '../local/preflight'
include { EXPORT    } from '../local/export'
include { FIT       } from '../local/fit'
include { CLASSIFY  } from '../local/classify'
include { ASSIGN    } from '../local/assign'
include { DIFFEXP   } from '../local/diffexp'
include { PLACE     } from '../local/place'
include { REPORT    } from '../local/report'

workflow ANNOTATE {
    take:
    parameters   // val: all parameters, as JSON
    sheet        // path: sample sheet, or [] when the parameters name the one sample
    folders      // val: where relative paths may start, in order

    main:
    VALIDATE(parameters, sheet)
    VALIDATE.out.messages.subscribe { messages -> warn(messages.text) }

    samples = VALIDATE.out.samples.flatMap { file ->                     // [id, matrix, cloupe, models_dir, roles, beside, options, missing]
        def found = parsed(file).collect { sample -> located(sample, folders) }
        def missing = found.collectMany { sample -> sample.missing }
        if (missing) {
            error(missing.join('\n'))
        }
        found
    }
    PREFLIGHT(samples.map { sample -> [[id: sample.id], sample.matrix, sample.cloupe, sample.models_dir, sample.roles, sample.beside, sample.options] })

    planned = samples                                                    // [id, sample, plan, matrix for the stages]
        .map { sample -> [[id: sample.id], sample] }
        .join(PREFLIGHT.out.plan)
        .map { meta, sample, plan, converted -> [meta.id, sample, plan, converted ? converted.first() : sample.matrix] }
    planned.subscribe { id, _sample, plan, _matrix -> announce(id, parsed(plan)) }

    jobs = planned.flatMap { id, sample, plan, matrix ->                 // [meta, matrix, plan, models_dir]
        metas(id, parsed(plan)).collect { meta -> [meta, matrix, plan, sample.models_dir] }
    }
    FIT(jobs)

    blocks = jobs.join(FIT.out.fitted).flatMap { meta, matrix, plan, _models_dir, fitted ->
        (0..<meta.partitions).collect { index -> [meta + [partition: index], matrix, plan, fitted] }
    }
    CLASSIFY(blocks)

    predictions = CLASSIFY.out.predictions                               // [meta, files in the order of the cells]
        .map { meta, part -> [groupKey(meta - [partition: meta.partition], meta.partitions), [meta.partition, part]] }
        .groupTuple()
        .map { key, parts -> [key.target, parts.sort { part -> part[0] }.collect { part -> part[1] }] }
    ASSIGN(jobs.map { meta, _matrix, plan, _models_dir -> [meta, plan] }.join(FIT.out.fitted).join(predictions))

    tested = jobs
        .filter { meta, _matrix, _plan, _models_dir -> meta.diffexp }
        .map { meta, matrix, plan, _models_dir -> [meta, matrix, plan] }
        .join(ASSIGN.out.cell_types)
    DIFFEXP(tested)

    tables = ASSIGN.out.cell_types.map { meta, folder -> [meta, 1, folder] }   // [id, folders of tables, always in the same order]
        .mix(DIFFEXP.out.diffexp.map { meta, folder -> [meta, 2, folder] })
        .map { meta, stage, folder -> [groupKey(meta.id, meta.tables), ["${meta.model} ${stage}", folder]] }
        .groupTuple()
        .map { key, found -> [key.target, found.sort { table -> table[0] }.collect { table -> table[1] }] }
    labels = ASSIGN.out.cell_types                                       // [id, the models' folders]
        .map { meta, folder -> [groupKey(meta.id, meta.models), folder] }
        .groupTuple()
        .map { key, found -> [key.target, found.sort { folder -> folder.name }] }
    PLACE(
        planned.join(labels).map { id, sample, plan, matrix, found -> [[id: id], matrix, plan, found, sample.roles, sample.beside] }
    )

    placed = PLACE.out.placed.map { meta, folder -> [meta.id, folder] }
    views = planned.join(labels).join(placed).branch { _id, _sample, plan, _matrix, _labels, _placed ->
        exported: parsed(plan).h5ad
        plain: true
    }
    EXPORT(views.exported.map { id, _sample, plan, matrix, found, places -> [[id: id], matrix, plan, found, places] })
    more = views.plain.map { view -> [view[0], []] }                     // [id, further files of outs/]
        .mix(EXPORT.out.h5ad.map { meta, file -> [meta.id, file] })
    REPORT(
        planned.join(tables).join(placed).join(more).map { id, sample, plan, _matrix, found, places, files ->
            [[id: id], plan, found, places, files, sample.roles, sample.beside, quoted(command(sample))]
        }
    )

    emit:
    outs = REPORT.out.outs   // [meta, files of outs/]
}

def parsed(file) {
    new groovy.json.JsonSlurper().parseText(file.text)
}

// What the command line tool said on standard error, without its time stamps.
def warn(text) {
    text.readLines().findAll { line -> line ==~ /\d\d:\d\d:\d\d .*/ }.each { line -> log.warn(line.substring(9)) }
}

def announce(id, plan) {
    plan.notes.each { note -> log.info("${id}: ${note}") }
    plan.alerts.each { alert -> log.warn("${id}: ${alert.title}: ${alert.message}") }
}

// One meta for each model of the plan, with what the wiring must know: how many parts and tables to wait for.
def metas(id, plan) {
    def diffexp = !plan.skip.contains('diffexp')
    plan.jobs.collect { job ->
        [
            id: id, model: job.card.name, folder: job.card.folder, diffexp: diffexp,
            partitions: plan.partitions.size(), models: plan.jobs.size(), tables: plan.jobs.size() * (diffexp ? 2 : 1),
        ]
    }
}

// A checked sample with its files. What is not there is named in `missing`, for one error on all samples.
def located(sample, folders) {
    def files = ['matrix', 'cloupe', 'models_dir', 'cell_segmentations', 'spatial'].collectEntries { name -> [name, existing(sample[name], folders)] }
    // of a Space Ranger folder only the matrix is staged
    def inside = files.matrix ? sample.inside.collect { name -> files.matrix / name }.find { path -> path.exists() } : null
    def options = sample.findAll { name, _value -> !(name in ['id', 'inside', 'beside'] + files.keySet()) }
    if (options.tenx_cloud_token_path) {
        options.tenx_cloud_token_path = file(options.tenx_cloud_token_path, glob: false).toAbsolutePath()
    }
    // a switch that is on stands alone, one that is off not at all
    def given = options.findAll { _name, value -> value != false }.collect { name, value ->
        "--${name.replace('_', '-')}${value == true ? '' : "=${quoted(value.toString())}"}"
    }
    def beside = files.matrix ? besides(sample.beside, inside ?: files.matrix, files) : [:]
    return files + [
        id: sample.id,
        given: files,
        matrix: inside ?: files.matrix,
        roles: beside.keySet().toList(),
        beside: beside.values().toList(),
        options: given.join(' '),
        missing: files.findAll { _name, path -> path == null }.keySet().collect { name ->
            "Sample ${sample.id}: there is no ${name} ${sample[name]}, looked for in ${folders.unique(false).join(' and ')}"
        },
    ]
}

// The files beside the matrix by role, as cytonym's locate_beside finds them: beside Space Ranger's matrices, or as named.
def besides(names, matrix, files) {
    def found = matrix.name in names.matrices ? names.roles.collectEntries { role, places ->
        [role, places.collect { place -> upward(matrix.parent, place) }.find { path -> path.exists() }]
    } : [:]
    if (matrix.name.endsWith('.h5ad')) {
        found.h5ad = matrix
    }
    if (files.spatial) {
        found += names.in_spatial.collectEntries { role, places -> [role, places.collect { place -> files.spatial / place }.find { path -> path.exists() }] }
    }
    if (files.cell_segmentations) {
        def nuclei = files.cell_segmentations.parent / names.nuclei
        found += [cell_segmentations: files.cell_segmentations, nucleus_segmentations: nuclei.exists() ? nuclei : null]
    }
    return found.findAll { _role, path -> path }
}

def upward(folder, place) {
    place.startsWith('../') ? upward(folder.parent ?: folder, place.substring(3)) : folder / place
}

// The file or folder; null if it is not there, [] if there is none to look for.
def existing(path, folders) {
    if (!path) {
        return []
    }
    def places = path =~ /^(\/|[a-z0-9]+:\/\/)/ ? [path] : folders.collect { folder -> "${folder}/${path}" }
    return places.collect { place -> file(place, glob: false) }.find { place -> place.exists() }
}

// The command that does the same in a shell; the place of a token stays out of it.
def command(sample) {
    def files = (sample.given + [matrix: sample.matrix]).findAll { _name, path -> path }
    def named = files.collect { name, path -> "--${name.replace('_', '-')}=${quoted(path.toUriString())}" }.join(' ')
    return "cytonym annotate --id=${sample.id} ${named} ${sample.options}".replaceAll(/ --tenx-cloud-token-path=('[^']*'|\S+)/, '').trim()
}

def quoted(text) {
    text ==~ /[\w.,:\/@%+=-]+/ ? text : "'${text.replace("'", "'\\''")}'"
}
