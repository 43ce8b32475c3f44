//! Who may use whom: the table below is the architecture. A module that needs another one is a change of this table,
//! made on purpose.
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Lowest first. A module may use what is named beside it, and what stands above it in its own folder.
const MAY_USE: &[(&str, &[&str])] = &[
    ("telemetry", &[]),
    ("call", &[]),
    ("budget", &["telemetry"]), // shows what it has lent, and asks the kernel for our memory
    ("trace", &["budget", "telemetry"]),
    ("net", &["telemetry"]),
    ("redaction", &[]),
    ("config", &["trace", "net", "redaction"]), // the assembly names resource attributes, rules name directions
    ("policy", &["trace", "net", "config", "redaction"]), // says whose a call is: a workload of spans
    ("reload", &["telemetry", "config", "policy"]),
    ("http1", &["trace"]),
    ("detect", &["net", "http1"]),
    ("files", &[]),
    ("der", &[]),
    ("trust", &["config", "der"]),
    ("tls", &["budget", "telemetry", "config", "files", "net", "der", "detect", "trust"]),
    ("check", &[]),
    ("genai", &["budget", "telemetry", "call", "trace", "net", "config", "policy", "redaction"]),
    ("stitch", &["trace", "call"]),
    ("stack", &["budget", "telemetry", "call", "trace", "net", "config", "policy", "genai", "stitch"]),
    // Feeds a body that is held to its inspection before there is a call.
    ("proxy", &["budget", "telemetry", "trace", "net", "detect", "http1", "check", "policy", "tls", "genai", "stack"]),
    ("otlp", &["trace", "config"]),
    ("exporters", &["telemetry", "trace", "net", "otlp", "config", "files"]),
    ("pipeline", &["budget", "telemetry", "trace", "config", "otlp", "exporters"]),
    ("admin", &["budget", "telemetry", "pipeline"]), // shows what the pipeline has counted
    (
        "app",
        &[
            "budget",
            "telemetry",
            "config",
            "trace",
            "net",
            "policy",
            "reload",
            "files",
            "genai",
            "stack",
            "proxy",
            "otlp",
            "exporters",
            "pipeline",
            "admin",
            "tls",
            "trust",
        ],
    ),
    ("cli", &["app", "budget", "check", "config", "telemetry", "tls", "trust"]),
];

#[test]
fn modules_use_only_what_the_table_allows() {
    let table: BTreeMap<_, BTreeSet<_>> =
        MAY_USE.iter().map(|(module, uses)| (*module, uses.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (file, text) in sources() {
        let module = module_of(&file);
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let Some(allowed) = table.get(module.as_str()) else {
            wrong.push(format!("{}: the module {module} is not in the table", file.display()));
            continue;
        };
        seen.insert(module.clone());
        for used in used_modules(&text) {
            if used != module && !allowed.contains(used.as_str()) {
                wrong.push(format!("{}: {module} uses {used}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let unknown: Vec<_> = table.keys().filter(|module| !seen.contains(**module)).collect();
    assert!(unknown.is_empty(), "in the table, but not in src: {unknown:?}");
}

#[test]
fn the_table_has_no_cycle() {
    let table: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    fn visit<'a>(module: &'a str, path: &mut Vec<&'a str>, table: &BTreeMap<&'a str, &'a [&'a str]>) {
        assert!(!path.contains(&module), "cycle: {path:?} -> {module}");
        path.push(module);
        table.get(module).into_iter().copied().flatten().for_each(|used| visit(used, path, table));
        path.pop();
    }
    table.keys().for_each(|module| visit(module, &mut Vec::new(), &table));
}

#[test]
fn only_the_assembly_reads_the_environment_and_only_semconv_spells_attribute_names() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let name = file.display().to_string();
        if ["/tests.rs", "genai/cases.rs", "genai/cases/several.rs"].iter().any(|tests| name.ends_with(tests)) {
            continue;
        }
        let program = code(&text);
        if program.contains("env::var") && !name.contains("config/assembly") {
            wrong.push(format!("{name} reads the environment"));
        }
        let spelled = [
            "\"http.",
            "\"server.",
            "\"network.",
            "\"rpc.",
            "\"url.",
            "\"error.type",
            "\"sidetrace.",
            "\"gen_ai.",
            "\"mcp.",
            "\"jsonrpc.",
            "\"openai.",
        ];
        if spelled.iter().any(|prefix| program.contains(prefix)) && !name.ends_with("trace/semconv.rs") {
            wrong.push(format!("{name} spells an attribute's name"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_operators_page_has_every_reason_why_a_connection_is_not_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/operations.md")).unwrap();
    let mut reasons = BTreeSet::new();
    for file in ["src/detect.rs", "src/tls/doubt.rs"] {
        let text = code(&std::fs::read_to_string(root.join(file)).unwrap());
        let found = text.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next());
        reasons.extend(found.map(str::to_owned));
    }
    assert!(reasons.len() > 20, "the reasons were not found: {reasons:?}");
    let missing: Vec<_> = reasons.iter().filter(|reason| !page.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty(), "not in docs/operations.md: {missing:?}");
}

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    assert!(found.len() > 20, "the sources were not found");
    found
}

/// The first folder, or the file itself.
fn module_of(file: &Path) -> String {
    let first = file.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// `crate::a`, and the members of `crate::{a, b::c}`.
fn used_modules(text: &str) -> BTreeSet<String> {
    let code = code(text);
    let mut used = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let name =
            |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            Some(group) => used.extend(group.split_once('}').unwrap().0.split(',').map(name)),
            None => _ = used.insert(name(rest)),
        }
    }
    used.remove("");
    used
}

/// Without comments and unit tests.
fn code(text: &str) -> String {
    let program = text.split("#[cfg(test)]").next().unwrap();
    program.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}
