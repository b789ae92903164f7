// The stages and how they meet: nothing is wired anywhere else. Comments show a channel's element.

include { VALIDATE                 } from '../local/validate'
include { PREFLIGHT                } from '../local/preflight'
include { EXPORT                   } from '../local/export'
include { FIT; FIT as FIT_IN_CLOUD } from '../local/fit'
include { CLASSIFY                 } from '../local/classify'
include { ASSIGN                   } from '../local/assign'
include { CONSENSUS                } from '../local/consensus'
include { DIFFEXP                  } from '../local/diffexp'
include { CLOUPE                   } from '../local/cloupe'
include { PLACE                    } from '../local/place'
include { REPORT                   } from '../local/report'
include { COHORT                   } from '../local/cohort'

workflow ANNOTATE {
    take:
    parameters   // val: all parameters, as JSON
    sheet        // path: sample sheet, or [] when the parameters name the one sample
    folders      // val: where relative paths may start, in order

    main:
    VALIDATE(parameters, sheet)
    VALIDATE.out.messages.subscribe { messages -> warn(messages.text) }

    samples = VALIDATE.out.samples.flatMap { file ->                     // [id, matrix, cloupe, models_dir, token, markers, roles, beside, options, missing]
        def found = parsed(file).collect { sample -> located(sample, folders) }
        def missing = found.collectMany { sample -> sample.missing }
        if (missing) {
            error(missing.join('\n'))
        }
        found
    }
    PREFLIGHT(samples.map { sample -> [[id: sample.id], sample.matrix, sample.cloupe, sample.models_dir, sample.names, sample.bundles, sample.token, sample.markers, sample.roles, sample.beside, sample.options] })

    planned = samples                                                    // [id, sample, plan, matrix for the stages]
        .map { sample -> [[id: sample.id], sample] }
        .join(PREFLIGHT.out.plan)
        .map { meta, sample, plan, converted -> [meta.id, sample, plan, converted ? converted.first() : sample.matrix] }
    planned.subscribe { id, _sample, plan, _matrix -> announce(id, parsed(plan)) }

    jobs = planned.flatMap { id, _sample, plan, matrix ->                // [meta, matrix, plan]
        metas(id, parsed(plan)).collect { meta -> [meta, matrix, plan] }
    }
    fits = planned.flatMap { id, sample, plan, matrix ->                 // [meta, matrix, plan, models_dir, bundles, token, record]
        metas(id, parsed(plan)).collect { meta ->
            [meta, matrix, plan, sample.models_dir, meta.reference ? sample.bundles : []] + (meta.cloud ? [sample.token, record(meta)] : [[], ''])
        }
    }.branch { meta, _matrix, _plan, _models_dir, _bundles, _token, _record ->
        cloud: meta.cloud
        local: true
    }
    FIT(fits.local)
    FIT_IN_CLOUD(fits.cloud)
    fitted = FIT.out.fitted.mix(FIT_IN_CLOUD.out.fitted)                 // [meta, fitted, evidence]

    references = planned.flatMap { id, sample, plan, _matrix ->          // [meta, models_dir, bundles]: of references alone
        metas(id, parsed(plan)).collect { meta -> [meta] + (meta.reference ? [sample.models_dir, sample.bundles] : [[], []]) }
    }
    blocks = jobs.join(fitted).join(references).flatMap { meta, matrix, plan, fit, _evidence, models_dir, bundles ->
        (0..<meta.partitions).collect { index -> [meta + [partition: index], matrix, plan, fit, models_dir, bundles] }
    }
    CLASSIFY(blocks)

    predictions = CLASSIFY.out.predictions                               // [meta, files in the order of the cells]
        .map { meta, part -> [groupKey(meta - [partition: meta.partition], meta.partitions), [meta.partition, part]] }
        .groupTuple()
        .map { key, parts -> [key.target, parts.sort { part -> part[0] }.collect { part -> part[1] }] }
    ASSIGN(jobs.map { meta, _matrix, plan -> [meta, plan] }.join(fitted).join(predictions))

    models = ASSIGN.out.cell_types                                       // [id, the models' folders]
        .map { meta, folder -> [groupKey(meta.id, meta.models), folder] }
        .groupTuple(remainder: true)                                     // a model of 10x Cloud that failed leaves the others
        .map { key, found -> [key.target, found.sort { folder -> folder.name }] }
        .branch { _id, found ->
            several: found.size() > 1
            single: true
        }
    CONSENSUS(planned.join(models.several).map { id, _sample, plan, _matrix, found -> [agreed(id, parsed(plan)), plan, found] })
    labels = models.single                                               // [id, all folders with labels]
        .mix(models.several.join(CONSENSUS.out.cell_types.map { meta, folder -> [meta.id, folder] }).map { id, found, folder -> [id, found + [folder]] })

    labelled = ASSIGN.out.cell_types.mix(CONSENSUS.out.cell_types)       // [meta, folder]
    tested = planned.map { id, _sample, plan, matrix -> [agreed(id, parsed(plan)), matrix, plan] }.mix(jobs)
    DIFFEXP(tested.filter { meta, _matrix, _plan -> meta.diffexp }.join(labelled))

    tables = labelled.map { meta, folder -> [meta, 1, folder] }          // [id, folders of tables, always in the same order]
        .mix(DIFFEXP.out.diffexp.map { meta, folder -> [meta, 2, folder] })
        .map { meta, stage, folder -> [groupKey(meta.id, meta.tables), ["${meta.model} ${stage}", folder]] }
        .groupTuple(remainder: true)
        .map { key, found -> [key.target, found.sort { table -> table[0] }.collect { table -> table[1] }] }
    shown = planned.join(labels).branch { _id, sample, _plan, _matrix, _found ->
        loupe: sample.cloupe
        plain: true
    }
    CLOUPE(shown.loupe.map { id, sample, plan, _matrix, found -> [[id: id], plan, found, sample.cloupe, sample.loupe_tools] })
    CLOUPE.out.loupe.subscribe { meta, folder, _cloupe -> alert(meta.id, parsed(folder / 'alerts.json')) }
    loupes = shown.plain.map { view -> [view[0], [], []] }               // [id, folder of CLOUPE or [], .cloupe or []]
        .mix(CLOUPE.out.loupe.map { meta, folder, cloupe -> [meta.id, folder, cloupe] })

    PLACE(planned.join(labels).join(loupes).map { id, sample, plan, matrix, found, loupe, _cloupe ->
        [[id: id], matrix, plan, found, sample.roles, sample.beside, loupe]
    })

    placed = PLACE.out.placed.map { meta, folder -> [meta.id, folder] }
    views = planned.join(labels).join(placed).branch { _id, _sample, plan, _matrix, _labels, _placed ->
        exported: ['h5ad', 'spatialdata'].any { name -> parsed(plan)[name] }
        plain: true
    }
    EXPORT(views.exported.map { id, sample, plan, matrix, found, places -> [[id: id], matrix, plan, found, places, sample.roles, sample.beside] })
    more = views.plain.map { view -> [view[0], []] }                     // [id, further files of outs/]
        .mix(EXPORT.out.files.map { meta, files -> [meta.id, files] })
    REPORT(
        planned.join(tables).join(placed).join(loupes).join(more).map { id, sample, plan, _matrix, found, places, loupe, cloupe, files ->
            [[id: id], plan, found, places, loupe, [files, cloupe].flatten(), sample.roles, sample.beside, quoted(command(sample))]
        }
    )

    metrics = REPORT.out.outs.map { meta, files -> [meta.id, files.find { file -> file.name == 'metrics.json' }] }
    COHORT(metrics.toSortedList { one, other -> one[0] <=> other[0] }
        .filter { found -> found.size() > 1 }
        .map { found -> found.collect { sample -> sample[1] } })

    emit:
    outs   = REPORT.out.outs                                             // [meta, files of outs/]
    inputs = planned.map { id, sample, plan, _matrix -> [id, sample.matrix, parsed(plan).jobs.collect { job -> job.card.folder }] }
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
    alert(id, plan.alerts)
}

def alert(id, alerts) {
    alerts.each { alert -> log.warn("${id}: ${alert.title}: ${alert.message}") }
}

// One meta for each model of the plan, with what the wiring must know: how many parts and tables to wait for.
def metas(id, plan) {
    plan.jobs.collect { job ->
        [
            model: job.card.name, folder: job.card.folder, partitions: plan.partitions.size(),
            cloud: job.card.backend == 'tenx_cloud', reference: job.card.backend == 'reference',
        ] + shared(id, plan)
    }
}

// The meta of the consensus, which there is where several models have labels.
def agreed(id, plan) {
    [model: 'consensus', folder: 'Consensus'] + shared(id, plan)
}

def shared(id, plan) {
    def models = plan.jobs.size()
    def diffexp = !plan.skip.contains('diffexp')
    [id: id, diffexp: diffexp, models: models, tables: (models > 1 ? models + 1 : models) * (diffexp ? 2 : 1)]
}

// Where the tries of one cloud model on one sample meet: in the work folder, unless that is in a bucket.
def record(meta) {
    workflow.workDir.toUri().scheme == 'file' ? "${workflow.workDir}/cloud/${meta.id}/${meta.model}" : ''
}

// A checked sample with its files. What is not there is named in `missing`, for one error on all samples.
def located(sample, folders) {
    def named = [
        matrix: 'matrix', cloupe: 'cloupe', loupe_tools: 'loupe_tools', models_dir: 'models_dir', token: 'tenx_cloud_token_path', markers: 'markers',
        cell_segmentations: 'cell_segmentations', spatial: 'spatial',
    ]
    def files = named.collectEntries { key, name -> [key, existing(sample[name], folders)] }
    // of a Space Ranger folder only the matrix is staged
    def inside = files.matrix ? sample.inside.collect { name -> files.matrix / name }.find { path -> path.exists() } : null
    def named_models = models(sample, files.models_dir, folders)         // as given -> folder of a reference, null if it is none
    def wanting = named_models.findAll { name, folder -> folder == null && name.contains('/') }.keySet()
    def options = sample.findAll { name, _value -> !(name in ['id', 'inside', 'beside', 'embedded', 'cell_annotation_model'] + named.values()) }
    // a switch that is on stands alone, one that is off not at all
    def given = options.findAll { _name, value -> value != false }.collect { name, value ->
        "--${name.replace('_', '-')}${value == true ? '' : "=${quoted(value.toString())}"}"
    }
    if (files.token && workflow.workDir.toUri().scheme != 'file') {
        error('--tenx_cloud_token_path: the token would be copied to the work folder, which is in a bucket. Use a secret: see docs/nextflow.md.')
    }
    def beside = files.matrix ? besides(sample.beside, inside ?: files.matrix, files) : [:]
    return files + [
        id: sample.id,
        given: files,
        matrix: inside ?: files.matrix,
        roles: beside.keySet().toList(),
        beside: beside.values().toList(),
        names: named_models.collect { name, folder -> folder ? null : quoted(name) },
        bundles: named_models.values().findAll { folder -> folder },
        models: named_models.collect { name, folder -> folder ? folder.toUriString() : name }.join(','),
        options: given.join(' '),
        missing: (files.findAll { _key, path -> path == null }.keySet().collect { key -> "${named[key]} ${sample[named[key]]}" } +
            wanting.collect { name -> "reference ${name}" }).collect { what ->
            "Sample ${sample.id}: there is no ${what}, looked for in ${folders.unique(false).join(' and ')}"
        },
    ]
}

// The named models in order, each with the folder of a reference that the name means; embedded and installed names come first.
def models(sample, models_dir, folders) {
    def names = sample.cell_annotation_model ? sample.cell_annotation_model.split(',', -1)*.trim() : []
    return names.collectEntries { name ->
        def known = !name || name in sample.embedded || (models_dir && (models_dir / name / 'card.json').exists())
        [name, known ? null : existing("${name}/card.json", folders)?.parent]
    }
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
    def files = (sample.given + [matrix: sample.matrix]).findAll { name, path -> path && name != 'token' }
    def named = files.collect { name, path -> "--${name.replace('_', '-')}=${quoted(path.toUriString())}" }.join(' ')
    def model = sample.models ? "--cell-annotation-model=${quoted(sample.models)} " : ''
    return "cytonym annotate --id=${sample.id} ${named} ${model}${sample.options}".trim()
}

def quoted(text) {
    text ==~ /[\w.,:\/@%+=-]+/ ? text : "'${text.replace("'", "'\\''")}'"
}
