//! The one binary, hodei.
//!
//! One line is read, one runtime is started, one command runs; what fails is told once and becomes the exit
//! code.

#![allow(clippy::result_large_err, reason = "a fault ends its command: how large it is costs nothing")]

mod again;
mod app;
mod args;
mod bucket;
mod budget;
mod care;
mod chain;
mod compute_offer;
mod context;
mod data;
mod decline;
mod demo;
mod doctor;
mod earnings;
mod export;
mod fault;
mod file;
mod help;
mod key;
mod kind;
mod locate;
mod market;
mod money;
mod mount;
mod name;
mod net;
mod node;
mod out;
mod own;
mod paths;
mod pool;
mod prompt;
mod provide;
mod purse;
mod redundancy;
mod rehearsal;
mod repair;
mod s3;
mod serve;
mod session;
mod share;
mod slot;
mod stale;
mod status;
mod sync;
mod ticket;
mod time;
mod verify;
mod versions;
mod wallet;

use args::{
    App, Budget, Care, Chain, Data, Global, Key, Line, Market, Net, Node, NodeOffer, Pool, Process, S3, S3Key, Share,
    Validator, Verb, Wallet,
};
use clap::FromArgMatches as _;
use commonware_runtime::{
    Runner as _,
    tokio::{Config, Context as Runtime, Runner},
};
use context::Contexts;
use fault::{Fault, Kind, Result};
use out::Out;
use paths::Paths;
use purse::Purse;
use session::Session;
use slot::Slot;
use std::{ffi::OsString, path::PathBuf, process::ExitCode};

/// Threads beyond this gain nothing on one machine's disks and wires.
const WORKERS_MAX: usize = 4;

fn main() -> ExitCode {
    // Before anything of this process exists that a stranger's component should not share.
    if std::env::args_os().nth(1).is_some_and(|word| word == hodei_node::host::RUNNER) {
        std::process::exit(hodei_node::host::runner::run());
    }
    #[cfg(target_os = "linux")]
    if std::env::args_os().nth(1).is_some_and(|word| word == hodei_node::host::KEEPER) {
        std::process::exit(hodei_node::host::keeper::run());
    }
    keep_freed_memory();
    let line = args::expand(std::env::args_os().collect());
    // Known before the line is understood, so that a misunderstood line is told in the form asked for.
    let out = Out { json: line.iter().any(|word| word == "--json") };
    let line = match parse(line) {
        Ok(line) => line,
        Err(error) => return refused(&error, out),
    };
    let out = Out { json: line.global.json };
    match run(line, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            out.fault(&fault);
            ExitCode::from(fault.exit())
        }
    }
}

fn parse(line: Vec<OsString>) -> std::result::Result<Line, clap::Error> {
    let mut matches = help::tree().try_get_matches_from(line)?;
    Line::from_arg_matches_mut(&mut matches)
}

/// Help and version are results; everything else is a usage fault.
fn refused(error: &clap::Error, out: Out) -> ExitCode {
    if !error.use_stderr() {
        // Nobody reading help is no failure.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if !out.json {
        let _ = error.print();
        return ExitCode::from(Kind::Usage as u8);
    }
    let text = error.render().to_string();
    let text = text.split("\n\nFor more").next().unwrap_or_default().trim();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let fault = Fault::new(&fault::USAGE, text, "`hodei COMMAND --help` shows examples first");
    out.fault(&fault);
    ExitCode::from(fault.exit())
}

/// The one place a runtime starts: `work` runs in it, with everything that survives under `storage`.
pub(crate) fn start<T, F: Future<Output = Result<T>>>(
    storage: PathBuf,
    workers: Option<u16>,
    work: impl FnOnce(Runtime) -> F,
) -> Result<T> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = workers.map_or(cores.min(WORKERS_MAX), usize::from);
    Runner::new(Config::new().with_storage_directory(storage).with_worker_threads(workers)).start(work)
}

/// A process that stays: the node's own folder holds what survives.
fn stay(checked: serve::Checked, process: Process, out: Out) -> Result<()> {
    // Told where another process runs it: the runtime would wait for that one to end.
    serve::freed(&checked.home, out)?;
    start(checked.home.store(), process.workers, |runtime| serve::run(runtime, checked, process, out))
}

/// Ctrl-C during most commands: told as every failure is, and the process ends at once, whatever it waits for. What it
/// leaves is what a kill would.
async fn interrupted(out: Out) {
    if tokio::signal::ctrl_c().await.is_ok() {
        let fault = Fault::new(
            &fault::INTERRUPTED,
            "stopped before the end",
            "run the same command again: it goes on where it stopped",
        );
        out.fault(&fault);
        std::process::exit(fault.exit().into());
    }
}

/// Most commands: reach the context, do one thing, say goodbye.
fn in_cloud(global: &Global, work: impl AsyncFnOnce(&Session) -> Result<()>) -> Result<()> {
    let out = Out { json: global.json };
    reach(global, true, async |session| {
        let watch = tokio::spawn(interrupted(out));
        let outcome = work(session).await;
        watch.abort();
        // From here on Ctrl-C ends the process as if nobody had listened: goodbyes may wait for somebody.
        // SAFETY: the default action is set for a signal whose handler nobody waits for any more.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
        outcome
    })
}

/// Commands that stay until they are stopped, and then end in order themselves.
fn until_stopped(global: &Global, work: impl AsyncFnOnce(&Session) -> Result<()>) -> Result<()> {
    reach(global, false, work)
}

/// What ends soon `adopts` what others left: one that stays would keep uploads that a later command could go on with.
fn reach(global: &Global, adopts: bool, work: impl AsyncFnOnce(&Session) -> Result<()>) -> Result<()> {
    let paths = Paths::of_user()?;
    let contexts = Contexts::of(&paths);
    let asked = global.context.as_deref();
    // Before anything starts: a context or wallet that does not exist is told at once.
    let (_, context) = contexts.open(asked)?;
    Purse::at(&context.wallet).owner()?;
    let slot = Slot::take(&context.wallet)?;
    if adopts {
        slot.adopt(&context.wallet);
    }
    start(slot.home.store(), None, |runtime| async move {
        let session = Session::open(runtime, &contexts, asked, global.passphrase_file.clone(), slot).await?;
        let outcome = work(&session).await;
        session.close().await;
        outcome
    })
}

fn run(line: Line, out: Out) -> Result<()> {
    let Line { global, verb } = line;
    let asked = global.context.as_deref();
    let passphrase = global.passphrase_file.clone();
    match verb {
        Verb::Help(topic) => help::run(&topic, out),
        Verb::Verify(verify) => {
            verify::run(&verify, || Ok((Contexts::of(&Paths::of_user()?), global.context.clone())), out)
        }
        Verb::Demo(args) => {
            let (storage, demo) = demo::prepare(&args)?;
            start(storage, None, |runtime| demo.run(runtime, out))
        }
        Verb::Data(Data::Create(create)) => {
            in_cloud(&global, async |session| bucket::create(&create, session, out).await)
        }
        Verb::Data(Data::Cp(cp)) => in_cloud(&global, async |session| data::cp(&cp, session, out).await),
        Verb::Data(Data::List(list)) => in_cloud(&global, async |session| data::list(&list, session, out).await),
        Verb::Data(Data::Rm(rm)) => in_cloud(&global, async |session| data::rm(&rm, session, out).await),
        Verb::Data(Data::Where(place)) => in_cloud(&global, async |session| locate::locate(&place, session, out).await),
        Verb::Data(Data::Redundancy(args)) => {
            in_cloud(&global, async |session| redundancy::redundancy(&args, session, out).await)
        }
        Verb::Data(Data::Repair(args)) => in_cloud(&global, async |session| repair::repair(&args, session, out).await),
        Verb::Data(Data::Care(care)) => match care {
            Care::Appoint(args) => in_cloud(&global, async |session| care::appoint(&args, session, out).await),
            Care::Show(args) => in_cloud(&global, async |session| care::show(&args, session, out).await),
            Care::Wage(args) => in_cloud(&global, async |session| care::wage(&args, session, out).await),
            Care::Release(args) => in_cloud(&global, async |session| care::release(&args, session, out).await),
            Care::Dismiss(args) => in_cloud(&global, async |session| care::dismiss(&args, session, out).await),
            Care::Withdraw(args) => in_cloud(&global, async |session| care::withdraw(&args, session, out).await),
            Care::Account => in_cloud(&global, async |session| care::account(session, out)),
            Care::Run(args) => until_stopped(&global, async |session| care::run(&args, session, out).await),
        },
        Verb::Data(Data::Extend(extend)) => {
            in_cloud(&global, async |session| bucket::extend(&extend, session, out).await)
        }
        Verb::S3(S3::Serve(serve)) => until_stopped(&global, async |session| s3::run(&serve, session, out).await),
        Verb::S3(S3::Key(S3Key::List(list))) if list.held => {
            in_cloud(&global, async |session| s3::list_held(session, out).await)
        }
        Verb::S3(S3::Key(key)) => s3::key(&key, asked, &Contexts::of(&Paths::of_user()?), out),
        Verb::Data(Data::Sync(args)) => in_cloud(&global, async |session| sync::sync(&args, session, out).await),
        Verb::Data(Data::Export(args)) => in_cloud(&global, async |session| export::export(&args, session, out).await),
        Verb::Data(Data::Mount(args)) => {
            let spool = mount::spool(&args, Paths::of_user)?;
            until_stopped(&global, async |session| mount::run(&args, &spool, session, out).await)
        }
        Verb::Data(Data::Share(share)) => match share {
            Share::Create(args) => in_cloud(&global, async |session| share::create(&args, session, out).await),
            Share::List(args) => in_cloud(&global, async |session| share::list(&args, session, out).await),
            Share::Revoke(args) => in_cloud(&global, async |session| share::revoke(&args, session, out).await),
            Share::Open(args) => in_cloud(&global, async |session| share::open(&args, session, out).await),
            Share::Get(args) => in_cloud(&global, async |session| share::get(&args, session, out).await),
            Share::Serve(args) => until_stopped(&global, async |session| share::serve(&args, session, out).await),
            Share::Reader => in_cloud(&global, async |session| share::reader(session, out)),
        },
        Verb::Deploy(args) => {
            if let Some(meant) = app::meant::meant(&args.file) {
                let read = app::stack::read(meant, &args)?;
                return in_cloud(&global, async |session| app::stack::deploy(&args, read, session, out).await);
            }
            // Read and checked before anybody is asked for anything.
            let read = app::deploy::read(&args)?;
            in_cloud(&global, async |session| app::deploy::deploy(&args, read, session, out).await)
        }
        Verb::App(app) => match app {
            App::Keep(process) => until_stopped(&global, async |session| app::serve::keep(process, session, out).await),
            App::Serve(args) => until_stopped(&global, async |session| app::serve::serve(&args, session, out).await),
            App::PortForward(args) => until_stopped(&global, async |session| {
                let apps = app::apps(session).await?;
                app::inside::forward(&args, apps, out).await
            }),
            // They end what they began themselves when they are stopped.
            App::Update(args) => until_stopped(&global, async |session| app::update::update(&args, session, out).await),
            App::Rollback(args) => {
                until_stopped(&global, async |session| app::update::rollback(&args, session, out).await)
            }
            App::Replay(args) => app::transcript::run_again(&args, out),
            app => in_cloud(&global, async |session| app::run(&app, session, out).await),
        },
        Verb::Status(args) => {
            let contexts = Contexts::of(&Paths::of_user()?);
            let folder = args.folder.as_deref();
            // A folder that holds no node is told, and none is made in it.
            folder.map(serve::check_present).transpose()?;
            if contexts.chosen(asked)?.is_none() {
                return status::without_context(&contexts, folder, out);
            }
            in_cloud(&global, async |session| status::status(session, folder, out).await)
        }
        Verb::Doctor => {
            let paths = Paths::of_user()?;
            if Contexts::of(&paths).chosen(asked)?.is_none() {
                return doctor::machine(&paths, out);
            }
            in_cloud(&global, async |session| doctor::run(session, &paths, out).await)
        }
        Verb::Node(Node::Run(run)) => {
            let folder =
                serve::folder(run.folder.as_ref(), || Ok(Contexts::of(&Paths::of_user()?).open(asked)?.1.node))?;
            stay(serve::check(&folder)?, run.process, out)
        }
        Verb::Node(Node::Offer(NodeOffer::Compute(args))) => {
            let paths = Paths::of_user()?;
            in_cloud(&global, async |session| compute_offer::offer(&args, session, &paths, out).await)
        }
        Verb::Node(Node::Drain(drain)) => in_cloud(&global, async |session| node::drain(&drain, session, out).await),
        Verb::Node(Node::Earnings(args)) => {
            in_cloud(&global, async |session| earnings::show(&args, session, out).await)
        }
        Verb::Node(Node::Decline(args)) => {
            let folder =
                serve::folder(args.folder.as_ref(), || Ok(Contexts::of(&Paths::of_user()?).open(asked)?.1.node))?;
            decline::decline(&args, &folder, out)
        }
        Verb::Node(Node::Declined(args)) => {
            let folder =
                serve::folder(args.folder.as_ref(), || Ok(Contexts::of(&Paths::of_user()?).open(asked)?.1.node))?;
            decline::declined(&folder, out)
        }
        Verb::Pool(pool) => {
            let paths = Paths::of_user()?;
            let work = async |session: &Session| pool::run(&pool, session, &paths, out).await;
            if matches!(pool, Pool::Run(_)) { until_stopped(&global, work) } else { in_cloud(&global, work) }
        }
        Verb::Chain(Chain::Validator(Validator::Run(run))) => {
            stay(serve::check_validator(&run.folder, None)?, run.process, out)
        }
        Verb::Chain(Chain::Validator(Validator::Start(start))) => {
            stay(serve::check_validator(&start.run.folder, Some(&start.confirm))?, start.run.process, out)
        }
        Verb::Chain(Chain::Export(export)) => {
            in_cloud(&global, async |session| chain::export(&export, session, out).await)
        }
        Verb::Chain(Chain::Import(import)) => {
            let checked = serve::check_validator(&import.folder, None)?;
            // Said before the runtime waits for the folder of a validator that runs.
            drop(checked.home.lock().map_err(serve::home_fault)?);
            start(checked.home.store(), None, |runtime| chain::import(runtime, import, checked, out))
        }
        Verb::Chain(Chain::Show(show)) => in_cloud(&global, async |session| chain::show(&show, session, out).await),
        Verb::Market(market) => in_cloud(&global, async |session| match &market {
            Market::Book(args) => market::book(args, session, out).await,
            Market::Quote(args) => market::quote::show(args, session, out).await,
            Market::History(args) => market::history::show(args, session, out).await,
            Market::Reserve(args) => market::held::reserve(args, session, out).await,
            Market::Reserved => market::held::reserved(session, out).await,
            Market::Renew(args) => market::held::renew(args, session, out).await,
            Market::Lend(args) => market::held::lend(args, session, out).await,
            Market::Recall(args) => market::held::recall(args, session, out).await,
            Market::Release(args) => market::held::release(args, session, out).await,
        }),
        Verb::Wallet(Wallet::Balance) => in_cloud(&global, async |session| wallet::balance(session, out).await),
        Verb::Wallet(Wallet::Statement(args)) => {
            in_cloud(&global, async |session| wallet::statement::show(&args, session, out).await)
        }
        Verb::Wallet(Wallet::Send(send)) => in_cloud(&global, async |session| wallet::send(&send, session, out).await),
        Verb::Wallet(Wallet::History(history)) => {
            in_cloud(&global, async |session| wallet::history(&history, session, out).await)
        }
        Verb::Wallet(Wallet::Budget(Budget::Show)) => {
            in_cloud(&global, async |session| wallet::budget_show(session, out).await)
        }
        Verb::Wallet(Wallet::Budget(Budget::Set(set))) => {
            in_cloud(&global, async |session| wallet::budget_set(&set, session, out).await)
        }
        Verb::Wallet(Wallet::Budget(Budget::Return(args))) => {
            in_cloud(&global, async |session| wallet::elsewhere::give_back(&args, session, out).await)
        }
        Verb::Net(Net::Create(create)) => net::create(&create, passphrase.as_deref(), &Paths::of_user()?, out),
        Verb::Net(Net::Invite(invite)) => {
            let paths = Paths::of_user()?;
            in_cloud(&global, async |session| net::invite(&invite, session, &paths, out).await)
        }
        Verb::Net(Net::Revoke(revoke)) => {
            let paths = Paths::of_user()?;
            in_cloud(&global, async |session| net::revoke(&revoke, session, &paths, out).await)
        }
        Verb::Net(Net::Join(join)) => {
            let paths = Paths::of_user()?;
            let ticket = net::read_ticket(&join)?;
            net::join(&join, ticket, passphrase, &paths, out)
        }
        Verb::Key(Key::Backup(args)) => key::backup(&args, &global, &Paths::of_user()?, out),
        Verb::Key(Key::Check(args)) => key::check(&args, &global, &Paths::of_user()?, out),
        Verb::Key(Key::Restore(args)) => key::restore(&args, &global, &Paths::of_user()?, out),
    }
}

/// Tells glibc to keep what stripes and shards free for the next ones: given back each time, every page of it is
/// faulted in anew, a tenth of a put.
fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: called before any other thread exists; both are plain limits in bytes.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
    }
}
