//! Start a whole cloud on this machine, break it, and check what it promises.
//!
//! ```text
//! start ─► fund ─► put ─► get (two providers killed) ─► pay ─► verify ─► tamper (must be refused)
//! ```
//! Every node is a process of its own, killed as a power cut would, and ends when the demo does, however
//! that ends. Each step says what it does and how long it took; the first that does not show what it should
//! is named, and the folder with all logs is kept.

mod child;
mod cloud;
mod steps;

use crate::{
    args,
    context::Contexts,
    fault::{self, Fault, Result},
    out::Out,
    paths::{Paths, create_private},
    serve::stopped,
    session::Session,
    slot::Slot,
};
use cloud::Cloud;
use commonware_runtime::tokio::Context as Runtime;
use hodei_gateway::s3::{self, Credentials, Objects};
use hodei_node::keys::Secret;
use hodei_sdk::{Local, plan::Wish};
use serde_json::json;
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

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
            create_private(&path)?;
            return Ok(Self { path, temporary: true });
        };
        let path = std::path::absolute(path).map_err(|error| Fault::io(path, "finding the folder", &error))?;
        if std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Fault::new(&fault::EXISTS, "the folder holds files already", "choose an empty or absent folder")
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
        self.say("stopping every node …");
        cloud.stop().await;
        match &outcome {
            Ok(()) if self.folder.temporary => {
                if let Err(error) = std::fs::remove_dir_all(&self.folder.path) {
                    self.say(&format!("{} stays behind: {error}", self.folder.path.display()));
                }
            }
            _ => self.say(&format!("everything, logs included, is in {}", self.folder.path.display())),
        }
        if outcome.is_ok() && !self.keep {
            self.out.result("the demo went well", &json!({ "schema": "hodei.demo.result/1", "ok": true }));
            if !self.ci {
                self.say("Next: hodei demo --keep   (leaves it running, with its doors)");
            }
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
        Ok((session, stored.cloud))
    }

    /// Runs one step under its time limit and tells how long it took, or names it as failed.
    async fn step<T>(&self, step: Step, work: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = Instant::now();
        let outcome = tokio::time::timeout(STEP_TIMEOUT, work).await;
        let seconds = begun.elapsed().as_secs_f64();
        let fault = match outcome {
            Ok(Ok(value)) => {
                self.say(&format!("✓ {:<7} {seconds:5.1} s", step.name()));
                return Ok(value);
            }
            Ok(Err(fault)) => fault,
            Err(_) => Fault::new(&fault::STEP, format!("no end within {} s", STEP_TIMEOUT.as_secs()), "see the nodes' logs"),
        };
        self.say(&format!("✗ {:<7} {seconds:5.1} s", step.name()));
        if fault.code.id == fault::STEP.id {
            let message = format!("step `{}` failed: {}", step.name(), fault.message);
            return Err(Fault { message, ..fault });
        }
        let (message, at) = (format!("step `{}` failed: {} {}", step.name(), fault.code.id, fault.message), fault.at);
        let help = format!("{}; the nodes' logs are in {}", fault.help, self.folder.path.display());
        Err(Fault { code: &fault::STEP, message, at, expected: fault.expected, found: fault.found, help })
    }

    fn sabotages(&self, step: Step) -> bool {
        self.sabotage == Some(step)
    }

    fn say(&self, text: &str) {
        // Also with --json: standard output then holds the one line, standard error the story.
        eprintln!("{text}");
    }

    /// `--keep`: opens the remaining doors, says where they are, and waits.
    async fn wait(&self, cloud: &Cloud, session: Session, local: Local, stop: impl Future<Output = ()>) -> Result<()> {
        let contexts = Contexts::of(&Paths::of_user()?);
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
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let bound = listener.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = bound.map_err(|error| {
            Fault::new(&fault::NODE, format!("the S3 door: {error}"), "allow this user to listen on 127.0.0.1")
        })?;
        let fresh = || Secret::generate().map_err(|error| Fault::new(&fault::INTERNAL, error, "try again"));
        let credentials = Credentials {
            access_key_id: format!("hodei{}", hex::encode(&fresh()?.bytes()[..8])),
            secret_access_key: hex::encode(&fresh()?.bytes()[..20]),
        };
        let endpoint = format!("http://{address}");
        doors["s3"] = json!({
            "endpoint": endpoint, "access_key_id": credentials.access_key_id,
            "secret_access_key": credentials.secret_access_key,
        });
        context.doors.insert("s3".into(), endpoint);
        // Ends with the demo: the runtime drops what it spawned.
        let s3 = tokio::spawn(s3::serve(listener, Objects::new(local, Wish::default()), credentials));
        contexts.save(&name, &context)?;
        let doors_text: String = context.doors.iter().map(|(door, address)| format!("\n  {door:<9}{address}")).collect();
        let text = format!("the cloud stays up as context {name}{doors_text}\n  try      hodei -C {name} data list");
        self.out.result(text, &doors);
        stop.await;
        contexts.remove(&name)?;
        s3.abort();
        session.close().await;
        Ok(())
    }
}
