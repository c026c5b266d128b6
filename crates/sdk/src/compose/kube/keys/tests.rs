//! Compare the keys with what docs/kubernetes.md says of them.

use super::*;

static ALL: [&Table; 45] = [
    &OBJECT,
    &LIST,
    &METADATA,
    &DEPLOYMENT,
    &STRATEGY,
    &STATEFUL,
    &SELECTOR,
    &TEMPLATE,
    &POD,
    &POD_SECURITY,
    &SECCOMP,
    &CONTAINER,
    &SECURITY,
    &CAPABILITIES,
    &ENV,
    &VALUE_FROM,
    &KEY_REF,
    &ENV_FROM,
    &REF,
    &PORT,
    &RESOURCES,
    &AMOUNTS,
    &PROBE,
    &EXEC,
    &MOUNT,
    &VOLUME,
    &EMPTY,
    &FILES_OF,
    &ITEM,
    &CLAIM,
    &SERVICE,
    &SERVICE_PORT,
    &INGRESS,
    &RULE,
    &HTTP,
    &PATH,
    &BACKEND,
    &BACKEND_SERVICE,
    &BACKEND_PORT,
    &DATA,
    &SECRET,
    &CLAIMED,
    &CLAIMED_SIZE,
    &STORAGE,
    &NAMESPACE,
];

/// What the page says of each key: its section, the key, its standing, and where it is not honoured the words.
fn page() -> Vec<[String; 4]> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/kubernetes.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut title = String::new();
    let mut rows = Vec::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            title = heading.replace('`', "");
        }
        let Some(row) = line.strip_prefix("| `") else { continue };
        let mut cells = row.split(" | ");
        let mut cell = || cells.next().unwrap_or_default().trim_end_matches(" |").to_owned();
        let (key, standing, words) = (cell().replace('`', ""), cell(), cell());
        rows.push([title.clone(), key, standing.clone(), if standing == "honoured" { String::new() } else { words }]);
    }
    rows
}

#[test]
fn the_page_lists_the_keys_of_manifests_and_nothing_else() {
    let mut listed = Vec::new();
    for table in ALL {
        for key in table.keys {
            let (standing, why, but) = match key.standing {
                Standing::Honoured => ("honoured", "", &[][..]),
                Standing::Noted(why) | Standing::Told(why, _) => ("noted", why, &[][..]),
                Standing::Later(why, but) | Standing::Refused(why, but) => ("refused", why, but),
            };
            let but = if but.is_empty() { String::new() } else { format!("; but for `{}`", but.join("`, `")) };
            listed.push([table.title, key.name, standing, &format!("{why}{but}")].map(str::to_owned));
        }
    }
    let page = page();
    for row in &listed {
        assert!(page.contains(row), "docs/kubernetes.md lacks {row:?}");
    }
    assert_eq!(page, listed);
}
