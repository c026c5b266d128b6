//! Compare the keys with what docs/compose.md says of them.

use super::*;

static ALL: [&Table; 23] = [
    &FILE,
    &SERVICE,
    &BUILD,
    &EXTENDS,
    &ENV_FILE,
    &PORT,
    &MOUNT,
    &SCRATCH,
    &GRANT,
    &DEPENDS,
    &HEALTH,
    &ATTACH,
    &DEPLOY,
    &RESOURCES,
    &LIMITS,
    &RESERVATIONS,
    &UPDATE,
    &RESTART,
    &VOLUME,
    &VOLUME_TERMS,
    &NETWORK,
    &SECRET,
    &CONFIG,
];

/// What the page says of each key: its section, the key, its standing, and where it is not honoured the words.
fn page() -> Vec<[String; 4]> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compose.md");
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
fn the_page_lists_what_is_read_and_nothing_else() {
    let mut listed = Vec::new();
    for table in ALL.iter().copied().chain([&PLACE]) {
        for key in table.keys {
            let (standing, words) = match key.standing {
                Standing::Honoured => ("honoured", String::new()),
                Standing::Noted(why) | Standing::Told(why, _) => ("noted", why.to_owned()),
                Standing::Later(why, []) => ("refused", why.to_owned()),
                Standing::Later(why, but) => ("refused", format!("{why}; but for `{}`", but.join("`, `"))),
                Standing::Refused(why, []) => ("refused", why.to_owned()),
                Standing::Refused(why, but) => ("refused", format!("{why}; but for `{}`", but.join("`, `"))),
            };
            listed.push([table.title, key.name, standing, &words].map(str::to_owned));
        }
    }
    let page = page();
    for row in &listed {
        assert!(page.contains(row), "docs/compose.md lacks {row:?}");
    }
    assert_eq!(page, listed);
}

#[test]
fn every_key_of_an_app_is_one_of_x_hodei() {
    let known = crate::app::Draft::parse("none = 1").unwrap_err().words;
    for key in known.split('`').skip(3).step_by(2) {
        assert!(PLACE.keys.iter().any(|of| of.name == key), "{key}");
    }
}
