//! Compare the house with its drawing: edges, bans, licences, first lines, promises.
//!
//! ARCHITECTURE.md states which room imports which; here `cargo metadata` must say the same, both ways.

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

/// Crates that must not be in the binary, and why.
const BANNED: &[(&str, &str)] = &[
    ("ring", "one crypto provider: aws-lc-rs"),
    ("openssl-sys", "the default build needs no system library"),
    ("libseccomp", "the default build needs no system library"),
    ("libseccomp-sys", "the default build needs no system library"),
    ("native-tls", "one TLS: rustls"),
];

/// Foreign things and the only rooms that may know them.
const FOREIGN: &[(&str, &[&str])] = &[
    ("iroh", &["link"]),
    ("revm", &["ledger"]),
    ("alloy-evm", &["ledger"]),
    ("commonware-consensus", &["ledger", "sim"]),
    ("commonware-glue", &["ledger", "sim"]),
    ("commonware-p2p", &["ledger", "sim"]),
    ("s3s", &["gateway"]),
    ("jsonrpsee", &["gateway"]),
    ("fuser", &["mount"]),
    ("redb", &["node"]),
    ("reed-solomon-erasure", &["storage"]),
    ("uniffi", &["embed"]),
    ("wasmtime", &["sandbox"]),
    ("wasmtime-wasi", &["sandbox"]),
    ("wasmtime-wasi-http", &["sandbox"]),
    ("tar", &["container", "sdk"]),
    ("flate2", &["container"]),
    ("ruzstd", &["container"]),
    // Planes do no IO.
    ("tokio", &["link", "node", "sdk", "gateway", "mount", "embed", "sandbox", "container", "cli", "benches"]),
];

/// Licences that allow what Apache-2.0 OR MIT promises.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BlueOak-1.0.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "OpenSSL",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo names it"))
        .join("../..")
        .canonicalize()
        .expect("the workspace")
});

static METADATA: LazyLock<Value> = LazyLock::new(|| {
    let printed = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    serde_json::from_str(&printed).expect("cargo metadata is JSON")
});

/// What cargo prints, asked in the workspace and without a network.
fn cargo(args: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(args).args(["--offline", "--locked"]).current_dir(&*ROOT).output();
    let output = output.expect("cargo runs");
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo speaks UTF-8")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(ROOT.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn str<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// Room name → its package, for packages of this workspace.
fn rooms() -> BTreeMap<String, &'static Value> {
    list(&METADATA, "packages")
        .iter()
        .filter(|package| package["source"].is_null() && str(package, "name").starts_with("hodei"))
        .map(|package| (room(str(package, "name")).to_owned(), package))
        .collect()
}

fn room(package: &str) -> &str {
    if package == "hodei" { "cli" } else { package.strip_prefix("hodei-").unwrap_or(package) }
}

fn folder(package: &Value) -> &Path {
    Path::new(str(package, "manifest_path")).parent().expect("a manifest lies in a folder")
}

/// Lines `a → b c` of ARCHITECTURE.md's fenced block `edges`.
fn drawn() -> BTreeMap<String, BTreeSet<String>> {
    let page = text("ARCHITECTURE.md");
    let block = page.split("```edges\n").nth(1).and_then(|rest| rest.split("```").next());
    block
        .expect("ARCHITECTURE.md has a block `edges`")
        .lines()
        .map(|line| {
            let (from, to) = line.split_once('→').unwrap_or_else(|| panic!("no arrow in {line:?}"));
            (from.trim().to_owned(), to.split_whitespace().map(Into::into).collect())
        })
        .collect()
}

#[test]
fn edges_equal_the_drawing() {
    let drawn = drawn();
    let rooms = rooms();
    assert_eq!(rooms.keys().collect::<Vec<_>>(), drawn.keys().collect::<Vec<_>>(), "rooms and drawn rooms");
    for (name, package) in rooms {
        let built: BTreeSet<String> = list(package, "dependencies")
            .iter()
            .filter(|dependency| dependency["kind"].is_null() && str(dependency, "name").starts_with("hodei"))
            .map(|dependency| room(str(dependency, "name")).to_owned())
            .collect();
        assert_eq!(built, drawn[&name], "what {name} imports, built and drawn");
    }
}

#[test]
fn planes_never_import_each_other() {
    let drawn = drawn();
    let planes = ["ledger", "storage", "compute", "network", "audit"];
    for plane in planes {
        for other in drawn.get(plane).into_iter().flatten() {
            assert!(!planes.contains(&other.as_str()), "{plane} imports {other}");
        }
    }
    assert!(drawn["types"].is_empty(), "types imports nothing of ours");
    for (from, to) in &drawn {
        assert!(!to.contains("sim") && !to.contains("cli"), "{from} imports a room that nobody may");
    }
    let gateway: BTreeSet<_> = drawn["gateway"].iter().map(String::as_str).collect();
    assert!(gateway.is_subset(&["sdk", "types"].into()), "the gateway has no privilege: {gateway:?}");
}

#[test]
fn foreign_things_stay_in_their_room() {
    let mut met = BTreeSet::new();
    for (name, package) in rooms() {
        for dependency in list(package, "dependencies").iter().filter(|dependency| dependency["kind"].is_null()) {
            let foreign = str(dependency, "name");
            if let Some((_, may)) = FOREIGN.iter().find(|(of, _)| *of == foreign) {
                met.insert(foreign);
                // Whoever measures or simulates may hold anything; nobody imports them.
                let may_it = may.contains(&name.as_str()) || name == "benches";
                assert!(may_it, "{name} imports {foreign}, which only {may:?} may");
            }
        }
    }
    let unmet: Vec<_> = FOREIGN.iter().filter(|(name, _)| !met.contains(name)).collect();
    assert!(unmet.is_empty(), "nobody imports these any more: {unmet:?}");
}

/// Name, version and licence of everything the binary is built from on this machine, with the features it is built with.
fn linked() -> BTreeSet<(String, String, String)> {
    let tree =
        cargo(&["tree", "--package", "hodei", "--edges", "normal,build", "--prefix", "none", "--format", "{p}|{l}"]);
    tree.lines()
        .map(|line| {
            // A package met again is marked; a package of ours has its folder behind its version.
            let line = line.trim_end_matches(" (*)");
            let (package, licence) = line.split_once('|').unwrap_or_else(|| panic!("no licence in {line:?}"));
            let mut words = package.split_whitespace().map(str::to_owned);
            (words.next().expect("a name"), words.next().expect("a version"), licence.trim().to_owned())
        })
        .collect()
}

#[test]
fn nothing_banned_is_linked() {
    let linked = linked();
    assert!(linked.len() > 100, "the binary's dependencies were found");
    let names: BTreeSet<&str> = linked.iter().map(|(name, _, _)| name.as_str()).collect();
    // What must be there is found the same way, so that a mere change of cargo's words is noticed.
    assert!(names.contains("aws-lc-rs") && names.contains("rustls") && names.contains("hodei-ledger"), "{names:?}");
    for (name, why) in BANNED {
        assert!(!names.contains(name), "{name} is linked: {why}. `cargo tree -p hodei -i {name}` shows by whom");
    }
}

#[test]
fn licences_allow_ours() {
    let refused: Vec<_> = linked().into_iter().filter(|(_, _, licence)| !allowed(licence)).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

/// An SPDX expression is allowed when one side of each OR is, and both of each AND.
fn allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let expression = expression.trim();
    for word in [" AND ", " OR "] {
        if let Some((left, right)) = split(expression, word) {
            return if word == " AND " { allowed(left) && allowed(right) } else { allowed(left) || allowed(right) };
        }
    }
    match expression.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => allowed(inner),
        None => LICENCES.contains(&expression),
    }
}

/// Splits at `word` outside parentheses.
fn split<'a>(expression: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    expression.match_indices(word).find_map(|(at, _)| {
        let left = &expression[..at];
        (left.matches('(').count() == left.matches(')').count()).then(|| (left, &expression[at + word.len()..]))
    })
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    assert!(allowed("MIT OR GPL-3.0"));
    assert!(!allowed("MIT AND GPL-3.0"));
    assert!(allowed("(MIT OR GPL-3.0) AND Unicode-3.0"));
    assert!(allowed("Apache-2.0/MIT"));
    assert!(!allowed("") && !allowed("LGPL-3.0"));
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path()) {
        if entry.is_dir() {
            sources(&entry, into);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            into.push(entry);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for package in rooms().values() {
        sources(folder(package), &mut files);
    }
    assert!(files.len() > 100, "the workspace's files were found");
    files
}

#[test]
fn each_file_opens_with_one_sentence() {
    for path in all_sources() {
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        let first = text.lines().next().unwrap_or_default();
        let sentence = first.strip_prefix("//! ").unwrap_or_else(|| panic!("{}: {first:?}", path.display()));
        assert!(sentence.ends_with('.') && sentence.starts_with(char::is_uppercase), "{}: {first}", path.display());
    }
}

#[test]
fn each_room_says_the_same_thrice() {
    let readme = text("README.md");
    for (name, package) in rooms() {
        let sentence = str(package, "description");
        assert!(readme.contains(sentence), "README.md lacks {name}'s sentence: {sentence}");
        let lib = folder(package).join("src/lib.rs");
        if lib.exists() {
            let text = std::fs::read_to_string(lib).expect("UTF-8");
            assert_eq!(text.lines().next(), Some(format!("//! {sentence}").as_str()), "{name}'s lib.rs");
        }
    }
}

#[test]
fn nothing_is_left_to_do() {
    // Spelled apart, so that this file is not its own finding.
    let marks = [["to", "do!("].concat(), ["unimple", "mented!("].concat(), ["FIX", "ME"].concat()];
    for path in all_sources() {
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        for mark in &marks {
            assert!(!text.contains(mark), "{} has {mark}", path.display());
        }
    }
}

#[test]
fn each_promise_names_a_test_that_exists() {
    let mut names = BTreeSet::new();
    for path in all_sources() {
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        // `#[test]`, or a runtime's with what it is told.
        let ends = text.match_indices("test]\n").chain(text.match_indices("::test("));
        let tests = ends.filter_map(|(at, _)| text[at..].split("fn ").nth(1));
        names.extend(tests.filter_map(|rest| rest.split(['(', '<']).next().map(str::to_owned)));
    }
    let mut promises = 0;
    for line in text("PROMISES.md").lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Promise")) {
        let shown = line.rsplit('|').nth(1).expect("a last column").trim();
        promises += 1;
        if shown == "[test pending]" {
            continue;
        }
        let mut tests = shown.split('`').skip(1).step_by(2).peekable();
        assert!(tests.peek().is_some(), "neither a test nor [test pending]: {line}");
        for test in tests {
            let function = test.rsplit("::").next().expect("a name");
            assert!(
                names.contains(function) || (test.contains('/') && ROOT.join(test).exists()) || test == "check",
                "PROMISES.md names `{test}`, which does not exist"
            );
        }
    }
    assert!(promises > 10, "PROMISES.md was read");
}

#[test]
fn pages_link_to_files_that_exist() {
    for page in ["README.md", "ARCHITECTURE.md", "PROMISES.md", "THREATS.md", "CONTRIBUTING.md"] {
        let text = text(page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || link.contains("://") {
                continue;
            }
            assert!(ROOT.join(path).exists(), "{page} links to {path}, which does not exist");
        }
    }
}

/// What `interface name { … }` of a Solidity text holds, without comments, each run of blanks one.
fn interface(text: &str, name: &str) -> Option<String> {
    let body = text.split_once(&format!("interface {name} {{"))?.1;
    let mut depth = 1;
    let end = body.find(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0
    })?;
    let lines = body[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
    Some(lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" "))
}

#[test]
fn examples_declare_what_the_modules_do() {
    let mut modules = text("crates/types/src/abi.rs");
    let mut files = Vec::new();
    sources(&ROOT.join("crates/types/src/abi"), &mut files);
    modules.extend(files.iter().map(|path| std::fs::read_to_string(path).expect("UTF-8")));
    let mut declared = 0;
    for example in std::fs::read_dir(ROOT.join("examples")).expect("examples").map(|entry| entry.expect("a file")) {
        let path = example.path();
        if path.is_dir() {
            continue;
        }
        let code = std::fs::read_to_string(&path).expect("UTF-8");
        for name in code.split("\ninterface ").skip(1).filter_map(|rest| rest.split(' ').next()) {
            let theirs = interface(&modules, name).unwrap_or_else(|| panic!("{}: no module {name}", path.display()));
            let ours = interface(&code, name).expect("it was found");
            // A struct ends at its brace, a function at its semicolon.
            let structs = ours.split_inclusive("} ").filter(|part| part.starts_with("struct"));
            let functions = ours.split_inclusive(';').filter_map(|part| part.find("function").map(|at| &part[at..]));
            for part in structs.chain(functions).map(str::trim) {
                declared += 1;
                assert!(theirs.contains(part), "{} declares {part}, and the module {name} does not", path.display());
            }
        }
    }
    assert!(declared > 0, "no example calls a module");
}
