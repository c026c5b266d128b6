//! Start a whole cloud on this machine, break it, and check what it promises.
//!
//! ```text
//! start ─► fund ─► put ─► get (two providers killed) ─► pay ─► verify ─► tamper (must be refused) ─► run (a host killed)
//! ```
//! Every node is a process of its own, killed as a power cut would, and ends when the demo does, however
//! that ends. Each step says what it does and how long it took; the first that does not show what it should
//! is named, and the folder with all logs is kept.

mod child;
mod cloud;
mod run;
mod steps;

use crate::{
    args, budget,
    context::{Context, Contexts},
    fault::{self, Fault, Result},
    net::forget_invitations,
    out::Out,
    paths::{Paths, create_private},
    purse::Purse,
    s3,
    serve::stopped,
    session::Session,
    slot::Slot,
};
use cloud::{Cloud, WINDOW_SECS};
use commonware_runtime::tokio::Context as Runtime;
use hodei_gateway::{
    s3::{Calendar, Config, Objects, serve},
    share,
};
use hodei_sdk::{Local, plan::Wish};
use serde_json::json;
use std::{
    io::{IsTerminal as _, stderr},
    net::Ipv4Addr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

/// Details are broken before this column.
const COLUMNS: usize = 100;
/// A step that makes no progress for so long has failed.
const STEP_TIMEOUT: Duration = Duration::from_secs(90);

/// What is shown, in this order.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Start,
    Fund,
    Put,
    Get,
    Pay,
    Verify,
    Tamper,
    Run,
    /// Only where the cloud stays up.
    #[value(skip)]
    Heal,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Fund => "fund",
            Self::Put => "put",
            Self::Get => "get",
            Self::Pay => "pay",
            Self::Verify => "verify",
            Self::Tamper => "tamper",
            Self::Run => "run",
            Self::Heal => "heal",
        }
    }

    /// What is about to be seen.
    fn title(self) -> &'static str {
        match self {
            Self::Start => "Four validators agree on blocks; six providers offer disk in three zones.",
            Self::Fund => "A wallet has its coins, and money moves.",
            Self::Put => "A file is sealed, cut into shards, and spread over operators and zones.",
            Self::Get => "Two providers lose their power, and the file comes back all the same.",
            Self::Pay => "Who proves that it still holds its shards is paid, window by window.",
            Self::Verify => "A receipt proves the put to anybody who knows the network's key.",
            Self::Tamper => "One bit of it is changed, and it is refused.",
            Self::Run => "An app runs on three machines of others, one loses its power, and it answers all the same.",
            Self::Heal => "What lost its power has it again.",
        }
    }
}

/// The folder the demo lives in; a temporary one goes when all went well.
struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    fn choose(asked: Option<&Path>) -> Result<Self> {
        let Some(path) = asked else {
            let path = std::env::temp_dir().join(format!("hodei-demo-{}", std::process::id()));
            // Others may write to that place too: only a folder that nobody made before is private.
            let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
            made.map_err(|error| Fault::io(&path, "making the demo's folder", &error))?;
            return Ok(Self { path, temporary: true });
        };
        let path = std::path::absolute(path).map_err(|error| Fault::io(path, "finding the folder", &error))?;
        if std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Fault::new(
                &fault::EXISTS,
                "the folder holds files already",
                "choose an empty or absent folder",
            )
            .at(path.display()));
        }
        create_private(&path)?;
        Ok(Self { path, temporary: false })
    }
}

/// Chooses the folder and deals the network, before any runtime starts; the runtime's storage is the first.
pub(crate) fn prepare(args: &args::Demo) -> Result<(PathBuf, Demo)> {
    let folder = Folder::choose(args.folder.as_deref())?;
    let cloud = Cloud::prepare(&folder.path)?;
    let slot = Slot::take(cloud.purse.folder())?;
    let storage = slot.home.store();
    let (ci, keep, size, sabotage) = (args.ci, args.keep, args.size, args.sabotage);
    Ok((storage, Demo { tour: Tour { out: Out { json: false }, folder, ci, keep, size, sabotage }, cloud, slot }))
}

/// A demo about to run.
pub(crate) struct Demo {
    tour: Tour,
    cloud: Cloud,
    slot: Slot,
}

/// How it is shown.
struct Tour {
    out: Out,
    folder: Folder,
    ci: bool,
    keep: bool,
    size: u64,
    sabotage: Option<Step>,
}

impl Demo {
    /// Runs every step; stops all nodes whatever happens.
    pub(crate) async fn run(self, runtime: Runtime, out: Out) -> Result<()> {
        let Self { mut tour, mut cloud, slot } = self;
        tour.out = out;
        tour.run(runtime, &mut cloud, slot).await
    }
}

impl Tour {
    async fn run(&self, runtime: Runtime, cloud: &mut Cloud, slot: Slot) -> Result<()> {
        let mut stop = Box::pin(stopped(false)?);
        let outcome = tokio::select! {
            outcome = self.show(runtime, cloud, slot) => outcome,
            () = &mut stop => Err(Fault::new(&fault::INTERRUPTED, "stopped before the end", "run `hodei demo` again")),
        };
        let outcome = match outcome {
            Ok((session, local)) if self.keep => self.wait(cloud, session, local, stop).await,
            Ok((session, _)) => {
                session.close().await;
                Ok(())
            }
            Err(fault) => Err(fault),
        };
        eprintln!("\nStopping every node …");
        // Nothing of it is of use to anybody, nor is it after a Ctrl-C.
        let is_gone =
            self.folder.temporary && outcome.as_ref().err().is_none_or(|fault| fault.code.id == fault::INTERRUPTED.id);
        if is_gone {
            cloud.kill().await;
        } else {
            cloud.stop().await;
        }
        if !is_gone {
            eprintln!("Everything, logs included, is in {}", self.folder.path.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.folder.path) {
            eprintln!("{} stays behind: {error}", self.folder.path.display());
        }
        if outcome.is_ok() && !self.keep {
            self.out.result(
                "The demo went well: each line marked ✓ was checked, not just shown.",
                &json!({ "schema": "hodei.demo.result/1", "ok": true }),
            );
            let hodei = invoked();
            if self.ci {
                return outcome;
            }
            self.out.say(format!(
                "\nTry next:\n  {hodei} demo --keep              leaves such a cloud running, with S3 and Ethereum doors\n  \
                 {hodei} net create --help        makes a network of your own\n  {hodei} --help                   \
                 shows everything else"
            ));
        }
        outcome
    }

    async fn show(&self, runtime: Runtime, cloud: &mut Cloud, slot: Slot) -> Result<(Session, Local)> {
        self.step(Step::Start, steps::start(self, cloud)).await?;
        let name = format!("demo-{}", std::process::id());
        let session = Session::reach(runtime, name, cloud.context.clone(), None, slot).await?;
        self.step(Step::Fund, steps::fund(self, cloud, &session)).await?;
        let stored = self.step(Step::Put, steps::put(self, cloud, &session)).await?;
        self.step(Step::Get, steps::get(self, cloud, &stored)).await?;
        self.step(Step::Pay, steps::pay(self, cloud, &session, &stored)).await?;
        self.step(Step::Verify, async { steps::verify(self, cloud, &stored) }).await?;
        self.step(Step::Tamper, async { steps::tamper(self, cloud, &stored) }).await?;
        self.step(Step::Run, run::run(self, cloud, &session)).await?;
        Ok((session, stored.cloud))
    }

    /// Runs one step under its time limit and tells how long it took, or names it as failed.
    async fn step<T>(&self, step: Step, work: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = Instant::now();
        eprintln!("\n{}  {}", paint("1", &format!("{:<7}", step.name())), step.title());
        let outcome = tokio::time::timeout(STEP_TIMEOUT, work).await;
        let seconds = begun.elapsed().as_secs_f64();
        let fault = match outcome {
            Ok(Ok(value)) => {
                eprintln!("      {}  {seconds:.1} s", paint("32", "✓"));
                return Ok(value);
            }
            Ok(Err(fault)) => fault,
            Err(_) => {
                Fault::new(&fault::STEP, format!("no end within {} s", STEP_TIMEOUT.as_secs()), "see the nodes' logs")
            }
        };
        eprintln!("      {}  {seconds:.1} s", paint("31", "✗"));
        if fault.code.id == fault::STEP.id {
            let message = format!("step `{}` failed: {}", step.name(), fault.message);
            return Err(Fault { message, ..fault });
        }
        let (message, at) = (format!("step `{}` failed: {} {}", step.name(), fault.code.id, fault.message), fault.at);
        let help = format!("{}; the nodes' logs are in {}", fault.help, self.folder.path.display());
        Err(Fault {
            code: &fault::STEP,
            message,
            at,
            expected: fault.expected,
            found: fault.found,
            help,
            all: fault.all,
        })
    }

    fn sabotages(&self, step: Step) -> bool {
        self.sabotage == Some(step)
    }

    /// A detail of the step. Also with --json: standard output then holds the one line, standard error the story.
    fn say(&self, text: &str) {
        for line in wrapped(text) {
            eprintln!("         {line}");
        }
    }

    /// `--keep`: heals what was broken, opens the remaining doors, says where they are, and waits.
    async fn wait(
        &self,
        cloud: &mut Cloud,
        session: Session,
        local: Local,
        stop: impl Future<Output = ()>,
    ) -> Result<()> {
        tokio::pin!(stop);
        let interrupted = || Fault::new(&fault::INTERRUPTED, "stopped before the end", "run `hodei demo` again");
        tokio::select! {
            healed = self.step(Step::Heal, steps::heal(self, cloud, &session)) => healed?,
            () = &mut stop => return Err(interrupted()),
        }
        let paths = Paths::of_user()?;
        let contexts = Contexts::of(&paths);
        let name = session.name.clone();
        let mut context = cloud.context.clone();
        let mut doors = json!({
            "schema": "hodei.demo/1", "context": name, "network_key": context.network_key,
            "folder": self.folder.path, "wallet": {
                "address": cloud.purse.owner()?.to_string(),
                "secret": format!("0x{}", hex::encode(cloud.wallet_secret.bytes())),
            },
        });
        if let Some(rpc) = cloud.rpc {
            let url = format!("http://{rpc}");
            doors["rpc"] = json!(url);
            context.doors.insert("rpc".into(), url);
        }
        let (url, links) = links(local.clone()).await?;
        doors["share"] = json!(url);
        context.doors.insert("share".into(), url);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|error| {
            Fault::new(&fault::NODE, format!("the S3 door: {error}"), "allow this user to listen on 127.0.0.1")
        })?;
        let keyring = s3::keyring(cloud.purse.folder())?;
        let endpoint = format!("http://{address}");
        doors["s3"] = s3::introduce(&keyring, "demo", "demo@example.org", "")?;
        doors["s3"]["alt"] = s3::introduce(&keyring, "alt", "alt@example.org", "")?;
        doors["s3"]["tenant"] = s3::introduce(&keyring, "tenant", "tenant@example.org", "acme")?;
        doors["s3"]["endpoint"] = json!(endpoint);
        let shown = |name: &str| doors["s3"][name].as_str().unwrap_or_default().to_owned();
        let keys = format!("{} / {}", shown("access_key_id"), shown("secret_access_key"));
        context.doors.insert("s3".into(), endpoint);
        // Ends with the demo: the runtime drops what it spawned.
        let config = Config { domains: vec!["s3.localhost".into(), "localhost".into()], ..Config::default() };
        let calendar = Calendar::of_day(Duration::from_secs(WINDOW_SECS));
        let follower = budget::follow(cloud.purse.clone(), local.clone(), self.out);
        let objects = Objects::new(local, s3_wish(), keyring).counting(calendar);
        let lifecycles = tokio::spawn(objects.clone().keep_lifecycles());
        let s3 = tokio::spawn(serve(listener, objects, config));
        for ended in contexts.forget_ended()? {
            forget_invitations(&paths, &ended)?;
        }
        contexts.save(&name, &context)?;
        let before = contexts.make_current(&name)?;
        self.out.result(self.doors(&context, &cloud.purse, &keys)?, &doors);
        stop.await;
        contexts.remove(&name, before.as_deref())?;
        forget_invitations(&paths, &name)?;
        s3.abort();
        links.abort();
        lifecycles.abort();
        follower.abort();
        session.close().await;
        Ok(())
    }

    /// Where everything is, and what to type.
    fn doors(&self, context: &Context, purse: &Purse, keys: &str) -> Result<String> {
        let door = |name: &str| context.doors.get(name).map_or("", String::as_str);
        let hodei = invoked();
        Ok(format!(
            "\nThe cloud stays up until Ctrl-C. Other commands of this user act on it now.\n\n  \
             S3        {}\n            access key and secret  {keys}\n  \
             Ethereum  {}\n            account {}, key in {}\n  \
             key       {}\n\nTry, in another terminal:\n  \
             {hodei} status\n  \
             {hodei} data cp README.md hodei://demo/readme.md --receipt readme.receipt\n  \
             {hodei} data where hodei://demo/readme.md\n  \
             {hodei} share create hodei://demo/readme.md --expires 1h\n  \
             {hodei} verify readme.receipt --file README.md\n  \
             {hodei} wallet history",
            door("s3"),
            door("rpc"),
            purse.owner()?,
            purse.folder().join("main.key").display(),
            context.network_key,
        ))
    }
}

/// A door for share links, and where it is.
async fn links(local: Local) -> Result<(String, tokio::task::JoinHandle<()>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = bound.map_err(|error| {
        Fault::new(&fault::NODE, format!("the door for links: {error}"), "allow this user to listen on 127.0.0.1")
    })?;
    Ok((format!("http://{address}"), tokio::spawn(share::serve(listener, local))))
}

/// What a bucket made through the demo's S3 door shall be. A bucket's capacity is promised by providers when it is
/// made: of 8 GiB each, 48 such buckets fit at once, where of the usual size it were 12.
fn s3_wish() -> Wish {
    Wish { capacity_bytes: 256 << 20, ..Wish::default() }
}

/// Lines no longer than [`COLUMNS`], where blanks allow; what goes on stands below what it belongs to.
fn wrapped(text: &str) -> Vec<String> {
    let body = text.trim_start();
    let indent = text.len() - body.len();
    let (mut lines, mut line, mut is_fresh) = (Vec::new(), " ".repeat(indent), true);
    for word in body.trim_end().split(' ') {
        if !is_fresh && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent + 2)));
            is_fresh = true;
        }
        if !is_fresh {
            line.push(' ');
        }
        line.push_str(word);
        is_fresh = false;
    }
    lines.push(line);
    lines
}

/// How this program is called from here: by name where that finds it, otherwise by path.
fn invoked() -> String {
    let name = hodei_types::PRODUCT;
    let Ok(binary) = std::env::current_exe() else { return name.into() };
    let is_found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(name).canonicalize().is_ok_and(|found| found == binary))
    });
    if is_found {
        return name.into();
    }
    let here = std::env::current_dir().unwrap_or_default();
    binary.strip_prefix(&here).unwrap_or(&binary).display().to_string()
}

/// Coloured where somebody looks who did not refuse colours.
fn paint(code: &str, text: &str) -> String {
    let wanted = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_at_blanks_and_hang() {
        assert_eq!(wrapped("  attic  node 1"), ["  attic  node 1"]);
        let text = format!("  {}", "word ".repeat(40));
        let lines = wrapped(&text);
        assert!(lines.len() > 1 && lines.iter().all(|line| line.chars().count() <= COLUMNS), "{lines:?}");
        assert!(lines[0].starts_with("  word") && lines[1].starts_with("    word"), "{lines:?}");
        assert_eq!(lines.join(" ").split_whitespace().count(), 40, "no word is lost");
        assert_eq!(wrapped(&"x".repeat(300)), ["x".repeat(300)], "what has no blank stays whole");
    }
}
