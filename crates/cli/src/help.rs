//! Show examples first, commands in groups, and what a code means.

use crate::{
    args::{Help, Line},
    fault::{self, CODES, Fault, Result},
    out::Out,
};
use clap::{Command, CommandFactory};
use serde_json::json;

/// Which commands stand together on the front page.
const GROUPS: &[(&str, &[&str])] = &[
    ("Start here", &["demo", "status", "doctor"]),
    ("Use the cloud", &["data", "s3", "deploy", "app"]),
    ("Prove it", &["verify"]),
    ("Offer and pay", &["node", "pool", "market", "wallet"]),
    ("Run it together", &["net", "chain"]),
    ("Settings", &["key", "help"]),
];

/// What to type, by command. Each line parses.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("demo", &["hodei demo", "hodei demo --ci --size 1048576", "hodei demo --keep --json"]),
    ("status", &["hodei status", "hodei -C family status --json", "hodei status --folder /srv/hodei"]),
    ("doctor", &["hodei doctor"]),
    (
        "data create",
        &[
            "hodei data create photos --dry-run",
            "hodei data create photos --copies 3 --zones 3 -y",
            "hodei data create photos --code 4/8 --regions eu,uk",
        ],
    ),
    (
        "data cp",
        &[
            "hodei data cp a.jpg hodei://photos/a.jpg --receipt a.receipt",
            "hodei data cp hodei://photos/a.jpg back.jpg",
            "hodei data cp - hodei://photos/backup.tar --wait full",
        ],
    ),
    (
        "data list",
        &["hodei data list", "hodei ls hodei://photos/2026/ --json", "hodei data list hodei://photos --versions"],
    ),
    (
        "data rm",
        &[
            "hodei data rm hodei://photos/a.jpg -y",
            "hodei data rm hodei://photos",
            "hodei data rm hodei://photos/a.jpg --version null",
        ],
    ),
    (
        "data where",
        &["hodei data where hodei://photos/a.jpg", "hodei data where hodei://photos/a.jpg --stripes --json"],
    ),
    (
        "data redundancy",
        &[
            "hodei data redundancy photos --code 4/8 --dry-run",
            "hodei data redundancy photos --copies 3 --zones 3 --rate 10",
            "hodei data redundancy photos -y",
        ],
    ),
    (
        "data care appoint",
        &[
            "hodei data care appoint photos 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed --reserve 5 --out photos.care",
            "hodei data care appoint photos 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed --per-gib 0.01 --a-day 0.5 --dry-run",
        ],
    ),
    ("data care show", &["hodei data care show photos"]),
    (
        "data care wage",
        &[
            "hodei data care wage photos --per-gib 0.01 --a-day 0.5",
            "hodei data care wage photos --per-gib 0 --a-day 0 -y",
        ],
    ),
    ("data care release", &["hodei data care release photos allow", "hodei data care release photos forbid -y"]),
    ("data care dismiss", &["hodei data care dismiss photos 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed -y"]),
    ("data care withdraw", &["hodei data care withdraw photos --dry-run"]),
    ("data care account", &["hodei data care account"]),
    (
        "data care run",
        &["hodei data care run photos.care", "hodei data care run photos.care --every 60 --rate 10 --json"],
    ),
    (
        "data repair",
        &[
            "hodei data repair photos --dry-run",
            "hodei data repair photos --without 3f9a --rate 10",
            "hodei data repair photos --all -y",
            "hodei data repair photos --rebalance --dry-run",
        ],
    ),
    ("data extend", &["hodei data extend photos --windows 60", "hodei data extend photos --windows 365 --dry-run"]),
    (
        "s3 serve",
        &[
            "hodei s3 serve",
            "hodei s3 serve --listen 0.0.0.0:9000 --tls-cert chain.pem --tls-key key.pem --domain s3.example.org",
        ],
    ),
    (
        "s3 key add",
        &[
            "hodei s3 key add anna",
            "hodei s3 key add anna --within photos/camera/",
            "hodei s3 key add reader --read-only --json",
        ],
    ),
    ("s3 key list", &["hodei s3 key list", "hodei s3 key ls --held --json"]),
    ("s3 key rotate", &["hodei s3 key rotate HODEI0123456789ABCDEF --grace 3600"]),
    (
        "s3 key remove",
        &["hodei s3 key remove HODEI0123456789ABCDEF", "hodei s3 key remove HODEI0123456789ABCDEF --disable"],
    ),
    (
        "deploy",
        &[
            "hodei deploy hello.wat --replicas 3 --dry-run",
            "hodei deploy app.toml -y",
            "hodei deploy hello.wat --on-call --calls 100000",
            "hodei deploy compose.yaml -p shop --dry-run",
            "hodei deploy k8s/ --dry-run",
            "hodei deploy shop.wasm --name shop --replicas 3 --region eu-west,eu-north --memory 512MiB --term 7d --budget 5",
        ],
    ),
    ("app list", &["hodei app list", "hodei app ls --json"]),
    ("app show", &["hodei app show shop", "hodei app show shop --json"]),
    ("app logs", &["hodei app logs shop", "hodei app logs shop --lease 7 --since 4096"]),
    (
        "app exec",
        &["hodei app exec shop -- ls -l /", "hodei app exec shop -it -- sh", "hodei exec db -i -- psql -U shop"],
    ),
    ("app cp", &["hodei app cp shop:/var/log/shop.log .", "hodei app cp ./site shop:/srv"]),
    ("app port-forward", &["hodei app port-forward db 5432", "hodei app port-forward shop 9000:80"]),
    ("app stats", &["hodei app stats shop", "hodei app stats shop --every 2"]),
    ("app volume list", &["hodei app volume list shop-db", "hodei app volume ls shop-db --json"]),
    ("app volume snapshot", &["hodei app volume snapshot shop-db data"]),
    (
        "app volume backup",
        &["hodei app volume backup shop-db data data.tar", "hodei app volume backup shop-db data data.tar --stored"],
    ),
    ("app volume restore", &["hodei app volume restore shop-db data data.tar -y"]),
    ("app scale", &["hodei app scale shop 5 --dry-run", "hodei app scale shop 2 -y"]),
    (
        "app update",
        &[
            "hodei app update shop shop.wasm --check /health -y",
            "hodei app update shop ghcr.io/me/shop:2 --probation 30s --dry-run",
            "hodei app update shop -e MODE=live -y",
            "hodei app update shop --abort",
        ],
    ),
    ("app rollback", &["hodei app rollback shop --dry-run", "hodei app rollback shop 3 -y"]),
    ("app releases", &["hodei app releases shop", "hodei app releases shop --json"]),
    ("app drill", &["hodei app drill shop --replica 7 --dry-run", "hodei app drill shop --zone attic -y"]),
    ("app renew", &["hodei app renew shop 24h --dry-run", "hodei app renew shop 7d -y"]),
    ("app delete", &["hodei app delete shop --dry-run", "hodei app rm shop -y"]),
    (
        "app ask",
        &[
            "hodei app ask shop /hello",
            "hodei app ask shop /orders --method POST --body order.json --header accept:text/plain --transcript order.request",
        ],
    ),
    ("app samples", &["hodei app samples shop --out samples", "hodei app samples shop --json"]),
    (
        "app replay",
        &[
            "hodei app replay order.request --component shop.wasm",
            "hodei app replay samples/7-64.request --component shop.wat --json",
        ],
    ),
    ("app keep", &["hodei app keep", "hodei app keep --json"]),
    ("app serve", &["hodei app serve", "hodei app serve --listen 127.0.0.1:8081 --json"]),
    (
        "data sync",
        &[
            "hodei data sync ~/photos hodei://photos --delete --dry-run",
            "hodei data sync s3:// hodei:// --endpoint https://minio.example:9000 --access-key ME -y",
            "hodei sync hodei://photos/2026 ~/2026",
        ],
    ),
    (
        "data export",
        &[
            "hodei data export photos ~/photos",
            "hodei data export photos ~/photos --versions",
            "hodei data export hodei:// ~/all",
        ],
    ),
    ("data mount", &["hodei data mount photos ~/photos", "hodei data mount photos/2026 /mnt/2026 --read-only --json"]),
    (
        "data share create",
        &[
            "hodei share create hodei://photos/a.jpg --expires 30d -y",
            "hodei share create hodei://photos/a.jpg --gateway https://files.example",
            "hodei share create hodei://films/alps/ --for hodeireader1… --expires 30d -y",
            "hodei share create hodei://films/alps.mp4 --for hodeireader1… --pay 2 --per-gib 0.5 --dry-run",
            "hodei share create hodei://films/alps/ --for hodeireader1… --pay 2 -y",
        ],
    ),
    ("data share list", &["hodei share list", "hodei share list photos --json"]),
    (
        "data share revoke",
        &["hodei share revoke photos 3f9a01c2d4e5 -y", "hodei share revoke hodei://photos/a.jpg --rekey -y"],
    ),
    ("data share open", &["hodei share open hodeishare1…", "hodei share open hodeishare1… --json"]),
    (
        "data share get",
        &[
            "hodei share get https://files.example/s/hodeishare1…",
            "hodei share get hodeishare1… a.jpg",
            "hodei share get hodeishare1… seg/1.webm one.webm",
        ],
    ),
    ("data share reader", &["hodei share reader", "hodei share reader --json"]),
    (
        "data share serve",
        &[
            "hodei share serve",
            "hodei share serve --listen 127.0.0.1:9001 --json",
            "hodei share serve --keep 2GiB --upload 8Mbit --address 203.0.113.7:4501",
            "hodei share serve --no-crowd",
        ],
    ),
    (
        "verify",
        &[
            "hodei verify a.receipt --file a.jpg --network-key network.key",
            "hodei verify a.receipt",
            "hodei verify declined.jsonl --network-key network.key",
        ],
    ),
    ("node run", &["hodei node run --folder ~/cloud/node", "hodei node run --folder /srv/hodei --workers 1"]),
    (
        "node offer compute",
        &[
            "hodei node offer compute --dry-run",
            "hodei node offer compute --cpus 2 --memory 4GiB --region eu-west -y",
            "hodei node offer compute --availability 99.5 --bond 2 --dry-run",
        ],
    ),
    ("node drain", &["hodei node drain --dry-run", "hodei node drain --folder ~/cloud/node -y"]),
    (
        "node decline",
        &[
            "hodei node decline 1f0c2a9be75d34c86a1e90f7b2d45c3388e6f1a07d9b24c5630e8fa1b7d2c940 --reason court",
            "hodei node decline --bucket 0x1f0c2a9be75d34c86a1e90f7b2d45c3388e6f1a07d9b24c5630e8fa1b7d2c940 --reason report --note 'notice 7' -y",
        ],
    ),
    ("node declined", &["hodei node declined", "hodei node declined --folder ~/cloud/node --json"]),
    ("node earnings", &["hodei node earnings", "hodei node earnings 3f9a --json"]),
    (
        "pool create",
        &[
            "hodei pool create photos --dry-run",
            "hodei pool create photos --pays coins --devices 500 --space 4 --address 203.0.113.9:4435",
        ],
    ),
    ("pool run", &["hodei pool run photos", "hodei pool run photos --json"]),
    ("pool list", &["hodei pool list", "hodei pool ls --json"]),
    ("pool show", &["hodei pool show photos", "hodei pool show photos --json"]),
    ("pool word", &["hodei pool word photos", "hodei pool word photos --renew -y"]),
    ("pool redeem", &["hodei pool redeem photos 3f9a 0.25 -y"]),
    ("pool remove", &["hodei pool remove photos 3f9a --dry-run"]),
    (
        "market book",
        &[
            "hodei market book",
            "hodei market book --class storage --region eu",
            "hodei market book --class compute --json",
        ],
    ),
    (
        "market quote",
        &[
            "hodei market quote 100GiB",
            "hodei market quote 2TiB --copies 3 --region eu,uk",
            "hodei market quote 100GiB --code 4/8 --windows 365 --json",
        ],
    ),
    (
        "market reserve",
        &[
            "hodei market reserve --region eu-central --cpu 4 --memory 16GiB --replicas 3 --for 30d --dry-run",
            "hodei market reserve --region local --cpu 0.5 --memory 512MiB --for 1h -y",
        ],
    ),
    ("market reserved", &["hodei market reserved", "hodei market reserved --json"]),
    ("market renew", &["hodei market renew 7 --term 30d --dry-run", "hodei market renew 7 --term 1h -y"]),
    (
        "market lend",
        &[
            "hodei market lend 7 --part 80% --dry-run",
            "hodei market lend 7 --price-cpu 0.02 --price-memory 0.005 --preemptible 40% -y",
        ],
    ),
    ("market recall", &["hodei market recall 7 -y"]),
    ("market release", &["hodei market release 7 --dry-run"]),
    ("market history", &["hodei market history", "hodei market history --class storage --last 100 --before 81234.7"]),
    ("wallet balance", &["hodei wallet balance"]),
    ("wallet send", &["hodei wallet send 0x00000000000000000000000000000000000000aa 1.5 --dry-run"]),
    ("wallet history", &["hodei wallet history --last 5", "hodei wallet history --last 1000 --before 81234.7"]),
    ("wallet statement", &["hodei wallet statement", "hodei wallet statement --from 2026-11-01 --to 2026-11-30 --csv"]),
    ("wallet budget show", &["hodei wallet budget show"]),
    ("wallet budget set", &["hodei wallet budget set 25 --dry-run"]),
    ("wallet budget return", &["hodei wallet budget return 0x00000000000000000000000000000000000000aa --dry-run"]),
    (
        "net create",
        &["hodei net create family --validator 10.0.0.1:4434 10.0.0.2:4434 10.0.0.3:4434 10.0.0.4:4434 --dry-run"],
    ),
    ("net invite", &["hodei net invite --coins 25 -y"]),
    (
        "net join",
        &[
            "hodei net join hodeijoin1…",
            "hodei join - < ticket.txt",
            "hodei join hodeijoin1… --provide 100 --zone attic",
            "hodei join hodeijoin1… --provide 100 --behind-nat 203.0.113.9:4435",
            "hodei join hodeijoin1… --provide 100 --address 203.0.113.9:4433 --relay-for-others 203.0.113.9:4435",
        ],
    ),
    ("net revoke", &["hodei net revoke", "hodei net revoke 0x00000000000000000000000000000000000000aa -y"]),
    ("chain validator run", &["hodei chain validator run --folder family/validator-0"]),
    (
        "chain validator start",
        &["hodei chain validator start --folder family/validator-0 --after-loss --confirm=validator-0"],
    ),
    ("chain export", &["hodei chain export family.chain", "hodei chain export part.chain --from 100 --to 200"]),
    ("chain import", &["hodei chain import family.chain --folder family/validator-0"]),
    ("chain show", &["hodei chain show", "hodei chain show 100 --json"]),
    ("key backup", &["hodei key backup family.kit", "hodei key backup family.kit --passphrase-file secret.txt"]),
    ("key check", &["hodei key check family.kit"]),
    (
        "key restore",
        &[
            "hodei key recover family.kit",
            "hodei key restore family.kit --context-name family --passphrase-file secret.txt",
        ],
    ),
    ("help", &["hodei help HD3004", "hodei help errors", "hodei help exit-codes"]),
];

const EXIT_CODES: &str = "\
0    done
1    failed
2    usage or settings
3    not found
4    not allowed
5    temporary, or state unknown: the same command may be run again
6    verification false
7    refused by balance, budget or capacity
8    precondition not met, nothing was changed
9    applied, but not well
130  interrupted";

const ENVIRONMENT: &str = "\
AWS_ENDPOINT_URL   another S3 server that `data sync` reads, as --endpoint
AWS_REGION         its region, as --region
AWS_ACCESS_KEY_ID  access key there, as --access-key
AWS_SECRET_ACCESS_KEY  the secret that goes with it; AWS_SESSION_TOKEN where it is temporary
AWS_CA_BUNDLE      certificates to believe there, as --ca
HODEI_CONTEXT      the cloud to act on, as -C
HODEI_JSON         print JSON, as --json
HODEI_NETWORK_KEY  the key `verify` checks against, as --network-key
HODEI_NODE         the node's folder, as --folder
HODEI_PASSPHRASE_FILE  file with the wallet's passphrase, as --passphrase-file
XDG_CONFIG_HOME    settings and contexts; without it ~/.config
XDG_DATA_HOME      wallets and nodes; without it ~/.local/share
XDG_STATE_HOME     logs and unfinished work; without it ~/.local/state
A flag wins over its variable, a variable over config.toml.";

/// The command tree with examples before everything else.
pub(crate) fn tree() -> Command {
    let root = Line::command();
    let front = front_page(&root);
    dress(root, "").help_template(front)
}

fn dress(mut command: Command, path: &str) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        command = command.mut_subcommand(name, |sub| dress(sub, &path));
    }
    let examples: Vec<&str> = EXAMPLES
        .iter()
        .filter(|(of, _)| *of == path || of.strip_prefix(path).is_some_and(|rest| rest.starts_with(' ')))
        .flat_map(|(of, lines)| if *of == path { *lines } else { &lines[..1] })
        .copied()
        .collect();
    if path.is_empty() || examples.is_empty() {
        return command;
    }
    let examples: String = examples.iter().map(|line| format!("  {line}\n")).collect();
    command
        .help_template("{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}")
        .before_help(format!("Examples:\n{examples}"))
        .subcommand_help_heading("Commands")
}

fn front_page(root: &Command) -> String {
    let mut page = String::from("{about-with-newline}\nExamples:\n  hodei demo\n  hodei demo --keep\n\n");
    for (group, verbs) in GROUPS {
        page.push_str(&format!("{group}:\n"));
        for verb in *verbs {
            let about = root.find_subcommand(verb).and_then(|sub| sub.get_about()).map(ToString::to_string);
            page.push_str(&format!("  {verb:<8} {}\n", about.unwrap_or_default()));
        }
        page.push('\n');
    }
    page.push_str(
        "Shortcuts: ls, cp, rm, sync, share are of `data`; logs, exec of `app`; join is of `net`.\n\n{usage-heading} {usage}\n\n{options}\n",
    );
    page
}

/// `hodei help …`, offline.
pub(crate) fn run(help: &Help, out: Out) -> Result<()> {
    match help.topic.as_deref() {
        None => {
            let page = tree().render_long_help().to_string();
            out.result(&page, &json!({ "schema": "hodei.help/1", "text": page }));
        }
        Some("exit-codes") => out.result(EXIT_CODES, &json!({ "schema": "hodei.help/1", "text": EXIT_CODES })),
        Some("environment") => out.result(ENVIRONMENT, &json!({ "schema": "hodei.help/1", "text": ENVIRONMENT })),
        Some("errors") => {
            for code in CODES {
                out.result(format!("{}  {}", code.id, code.title), &object(code));
            }
        }
        Some(id) => {
            let Some(code) = CODES.iter().find(|code| code.id.eq_ignore_ascii_case(id)) else {
                return Err(Fault::new(
                    &fault::USAGE,
                    format!("there is no help on `{id}`"),
                    "`hodei help errors` lists the codes; other topics are exit-codes and environment",
                ));
            };
            let kind = code.kind;
            let text = format!(
                "{}: {}\n\n{}\n\nkind {}, exit code {}{}",
                code.id,
                code.title,
                code.explain,
                kind.word(),
                kind as u8,
                if kind.retryable() { ", may be run again" } else { "" },
            );
            out.result(text, &object(code));
        }
    }
    Ok(())
}

fn object(code: &fault::Code) -> serde_json::Value {
    json!({
        "schema": "hodei.help.code/1", "code": code.id, "kind": code.kind.word(), "exit": code.kind as u8,
        "retryable": code.kind.retryable(), "title": code.title, "explain": code.explain,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::expand;

    fn leaves(command: &Command, path: &str, into: &mut Vec<String>) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let path = format!("{path} {}", sub.get_name()).trim().to_owned();
            if sub.has_subcommands() { leaves(sub, &path, into) } else { into.push(path) }
        }
    }

    #[test]
    fn every_command_has_examples_that_parse() {
        let mut all = Vec::new();
        leaves(&Line::command(), "", &mut all);
        let with: Vec<&str> = EXAMPLES.iter().map(|(of, _)| *of).collect();
        for leaf in &all {
            assert!(with.contains(&leaf.as_str()), "`{leaf}` has no example");
        }
        for (of, lines) in EXAMPLES {
            assert!(all.iter().any(|leaf| leaf == of), "examples of `{of}`, which is no command");
            for line in *lines {
                let words = line.split(" <").next().unwrap().split(' ').map(Into::into).collect();
                let parsed = tree().try_get_matches_from(expand(words));
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            }
        }
    }

    #[test]
    fn every_verb_is_in_one_group() {
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, verbs)| *verbs).copied().collect();
        let root = Line::command();
        let mut verbs: Vec<&str> = root.get_subcommands().map(Command::get_name).collect();
        grouped.sort_unstable();
        verbs.sort_unstable();
        assert_eq!(grouped, verbs);
    }

    #[test]
    fn examples_come_before_usage() {
        let mut tree = tree();
        tree.build();
        for path in [&["data", "cp"][..], &["verify"], &["wallet", "budget", "set"]] {
            let mut at = &mut tree;
            for name in path {
                at = at.find_subcommand_mut(name).unwrap();
            }
            let page = at.render_long_help().to_string();
            let (examples, usage) = (page.find("Examples:").unwrap(), page.find("Usage:").unwrap());
            assert!(examples < usage, "{page}");
        }
    }

    #[test]
    fn what_is_said_everywhere_may_stand_before_a_short_verb() {
        for before in [&["--json"][..], &["-C", "home"], &["--passphrase-file", "words"], &["--context=home", "--json"]]
        {
            let words = ["hodei"].iter().chain(before).chain(&["ls"]).map(std::ffi::OsString::from).collect();
            assert!(tree().try_get_matches_from(expand(words)).is_ok(), "{before:?}");
        }
    }

    #[test]
    fn the_tree_is_sound() {
        tree().debug_assert();
    }

    #[test]
    fn every_environment_variable_is_documented() {
        fn walk(command: &Command) {
            for argument in command.get_arguments() {
                if let Some(name) = argument.get_env().and_then(|name| name.to_str()) {
                    assert!(ENVIRONMENT.contains(name), "{name} is not in `help environment`");
                }
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Line::command());
    }
}
