//! Read the commands on apps.

use super::{Plan, Process};
use clap::{Args, Subcommand};
use hodei_sdk::app::{Draft, VolumeDraft, volume_flag};
use std::{net::SocketAddr, path::PathBuf};

#[derive(Args, Debug)]
pub(crate) struct Deploy {
    /// A component, .wasm or .wat; an image as nginx:1.27, or its .tar, or a folder that is built; an app.toml that names
    /// one; or a compose.yaml, or manifests of Kubernetes, or the folder they are in.
    #[arg(value_name = "WHAT")]
    pub(crate) file: PathBuf,
    /// What it is called, a label of DNS; without it as its file, or its image.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) size: Size,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) terms: Terms,
    #[command(flatten)]
    pub(crate) container: Container,
    #[command(flatten)]
    pub(crate) stack: Stack,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "What of a compose file or manifests")]
pub(crate) struct Stack {
    /// What its apps' names begin with; without it its `name:` or namespace, or its folder's.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// A profile whose services are deployed too; may be given several times.
    #[arg(long = "profile", value_name = "PROFILE")]
    pub(crate) profiles: Vec<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "What a container is given")]
pub(crate) struct Container {
    /// A variable, as KEY=VALUE; KEY alone has this shell's value. May be given several times.
    #[arg(short = 'e', long = "env", value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
    /// A file of such lines; -e wins.
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,
    /// Where it answers HTTP, 0 for nowhere; the image's only one without it.
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u64>,
    /// A disk that outlives it and its host, as NAME:/PATH or NAME:/PATH:SIZE. May be given several times.
    #[arg(long = "volume", value_name = "NAME:/PATH[:SIZE]", value_parser = volume_flag)]
    pub(crate) volumes: Vec<VolumeDraft>,
    /// From one snapshot of its volumes to the next, as 60s, which it is without it.
    #[arg(long, value_name = "TIME")]
    pub(crate) snapshot: Option<String>,
    /// The bucket that these are kept in; on this machine without it.
    #[arg(long, value_name = "BUCKET")]
    pub(crate) bucket: Option<String>,
    /// Take the image from this machine's own podman or docker.
    #[arg(long, value_name = "PROGRAM", value_parser = ["podman", "docker"])]
    pub(crate) from: Option<String>,
    /// Of an image for several machines the one for linux/amd64 or linux/arm64; this machine's without it.
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// What it is started with, behind --, in place of the image's.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "What it takes")]
pub(crate) struct Size {
    /// How many of it run at once, 1 to 64.
    #[arg(long, value_name = "COUNT")]
    pub(crate) replicas: Option<u64>,
    /// CPUs of each replica, as 0.25.
    #[arg(long, value_name = "CPUS")]
    pub(crate) cpu: Option<String>,
    /// Memory of each replica, as 256MiB.
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Disk of each replica, as 1GiB.
    #[arg(long, value_name = "SIZE")]
    pub(crate) disk: Option<String>,
    /// Rate of each replica, in or out, as 8Mbit.
    #[arg(long, value_name = "RATE")]
    pub(crate) bandwidth: Option<String>,
    /// What each replica may move in an hour, in or out, as 1GiB.
    #[arg(long, value_name = "SIZE")]
    pub(crate) transfer: Option<String>,
    /// Fuel of one request at most, about an instruction each.
    #[arg(long, value_name = "FUEL")]
    pub(crate) request_fuel: Option<u64>,
    /// Memory of one request at most.
    #[arg(long, value_name = "SIZE")]
    pub(crate) request_memory: Option<String>,
    /// Time of one request at most, as 30s.
    #[arg(long, value_name = "TIME")]
    pub(crate) request_deadline: Option<String>,
    /// Bytes of a request's body, and of its answer's, at most.
    #[arg(long, value_name = "SIZE")]
    pub(crate) request_body: Option<String>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Where it may run")]
pub(crate) struct Place {
    /// Regions it may run in, with commas; all without it.
    #[arg(long = "region", value_name = "REGIONS", value_delimiter = ',')]
    pub(crate) regions: Option<Vec<String>>,
    /// The one country it may run in, as ES.
    #[arg(long, value_name = "COUNTRY")]
    pub(crate) country: Option<String>,
    /// The kind of place at least, as its host declares it: home, office or datacentre.
    #[arg(long, value_name = "TIER")]
    pub(crate) tier: Option<String>,
    /// Renewable percent of its host's power at least, as declared.
    #[arg(long, value_name = "PERCENT")]
    pub(crate) renewable: Option<u64>,
    /// Replicas on one host at most, 0 for no limit; 1 without it.
    #[arg(long, value_name = "COUNT")]
    pub(crate) per_host: Option<u64>,
    /// Replicas with one operator at most.
    #[arg(long, value_name = "COUNT")]
    pub(crate) per_operator: Option<u64>,
    /// Replicas on one network at most.
    #[arg(long, value_name = "COUNT")]
    pub(crate) per_network: Option<u64>,
    /// Coins a host has as collateral at least.
    #[arg(long, value_name = "COINS")]
    pub(crate) collateral_min: Option<String>,
    /// The reservation it runs in, as `hodei market reserved` numbers them; the open book without it.
    #[arg(long, value_name = "RESERVATION")]
    pub(crate) within: Option<u64>,
    /// Availability its hosts promise with a bond at least, as 99.9.
    #[arg(long, value_name = "PERCENT")]
    pub(crate) availability: Option<String>,
    /// Further hosts that keep a copy of what it runs, 0 to 4.
    #[arg(long, value_name = "COUNT")]
    pub(crate) spares: Option<u64>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "What it may cost")]
pub(crate) struct Terms {
    /// Most coins a replica may cost an hour.
    #[arg(long, value_name = "COINS")]
    pub(crate) price_max: Option<String>,
    /// How long it is paid ahead, as 24h, which it is without it.
    #[arg(long, value_name = "TIME")]
    pub(crate) term: Option<String>,
    /// Most coins that are bound for it.
    #[arg(long, value_name = "COINS")]
    pub(crate) budget: Option<String>,
    /// instant, deferrable, preemptible or on-call; instant without it.
    #[arg(long, value_name = "CLASS")]
    pub(crate) class: Option<String>,
    /// Paid by the call: it runs when it is asked, and sleeps otherwise. As --class on-call.
    #[arg(long, conflicts_with = "class")]
    pub(crate) on_call: bool,
    /// On call: calls of a billed millisecond that are paid ahead, a million without it.
    #[arg(long, value_name = "COUNT")]
    pub(crate) calls: Option<u64>,
    /// How long a deferrable order waits, as 1h.
    #[arg(long, value_name = "TIME")]
    pub(crate) patience: Option<String>,
}

impl Deploy {
    /// What the flags say, beside the file.
    pub(crate) fn draft(&self) -> Draft {
        let said = (&self.size, &self.place, &self.terms, &self.container);
        Draft { name: self.name.clone(), ..drafted(said) }
    }
}

/// What flags say of an app.
fn drafted((size, place, terms, container): (&Size, &Place, &Terms, &Container)) -> Draft {
    Draft {
        command: (!container.command.is_empty()).then(|| container.command.clone()),
        port: container.port,
        volumes: (!container.volumes.is_empty()).then(|| container.volumes.clone()),
        snapshot: container.snapshot.clone(),
        bucket: container.bucket.clone(),
        replicas: size.replicas,
        cpu: size.cpu.clone(),
        memory: size.memory.clone(),
        disk: size.disk.clone(),
        bandwidth: size.bandwidth.clone(),
        transfer: size.transfer.clone(),
        request_fuel: size.request_fuel,
        request_memory: size.request_memory.clone(),
        request_deadline: size.request_deadline.clone(),
        request_body: size.request_body.clone(),
        regions: place.regions.clone(),
        country: place.country.clone(),
        tier: place.tier.clone(),
        renewable: place.renewable,
        price_max: terms.price_max.clone(),
        per_host: place.per_host,
        per_operator: place.per_operator,
        per_network: place.per_network,
        class: if terms.on_call { Some("on-call".to_owned()) } else { terms.class.clone() },
        calls: terms.calls,
        patience: terms.patience.clone(),
        term: terms.term.clone(),
        budget: terms.budget.clone(),
        collateral_min: place.collateral_min.clone(),
        within: place.within,
        availability: place.availability.clone(),
        spares: place.spares,
        ..Draft::default()
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum App {
    /// List this wallet's apps: how many replicas run, what they cost, until when they are paid.
    #[command(visible_alias = "ls")]
    List,
    /// Show where an app's replicas run, how they are, and its bill.
    Show(AppName),
    /// Show what an app's replicas printed last.
    Logs(AppLogs),
    /// Run a program in an app's container; its exit code is this one's.
    Exec(AppExec),
    /// Copy files out of an app's container, or into it.
    Cp(AppCp),
    /// Listen here for a port of an app's container, until it is stopped.
    PortForward(AppForward),
    /// Show what an app's replicas use now, and used.
    Stats(AppStats),
    /// Show what is stored of an app's volumes, store it, back it up and restore it.
    #[command(subcommand)]
    Volume(AppVolume),
    /// Give an app more replicas, or fewer.
    Scale(AppScale),
    /// Bring a new release of an app beside the one that runs, and move to it once it has shown that it is well.
    Update(Box<AppUpdate>),
    /// Move back to a release that was, as `app releases` numbers them; without a number to the one before.
    Rollback(AppRollback),
    /// List the releases of an app that are kept, and which one runs.
    Releases(AppName),
    /// End replicas of an app on purpose, and tell when it served again, what failed and what it cost.
    Drill(AppDrill),
    /// Pay an app's replicas for longer.
    Renew(AppRenew),
    /// End an app, or all of a compose file's project; what was not used of its escrow comes back.
    #[command(visible_alias = "rm")]
    Delete(AppDelete),
    /// Ask a replica of an app one thing; with --transcript keep what its host signs of it.
    Ask(AppAsk),
    /// Fetch the requests that the hosts of an app's replicas wrote down: the first, and each 64th.
    Samples(AppSamples),
    /// Run a request again that a host wrote down, and compare fuel, memory and answer; needs no cloud.
    Replay(AppReplay),
    /// Look at all apps every few seconds, and place again what is lost, until it is stopped.
    Keep(Process),
    /// Answer HTTP for this wallet's apps at NAME.localhost, and keep them, until it is stopped.
    Serve(AppServe),
}

#[derive(Args, Debug)]
pub(crate) struct AppName {
    /// The app's name.
    #[arg(value_name = "NAME")]
    pub(crate) app: String,
}

#[derive(Args, Debug)]
pub(crate) struct AppLogs {
    #[command(flatten)]
    pub(crate) name: AppName,
    /// Only of this lease; without it of all.
    #[arg(long, value_name = "LEASE")]
    pub(crate) lease: Option<u64>,
    /// Only what came after so many bytes of a replica's log: what it said at its end.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) since: u64,
}

#[derive(Args, Debug)]
pub(crate) struct AppExec {
    #[command(flatten)]
    pub(crate) name: AppName,
    /// In the replica of this lease; without it in the first.
    #[arg(long, value_name = "LEASE")]
    pub(crate) lease: Option<u64>,
    /// Standard input goes in.
    #[arg(long, short)]
    pub(crate) interactive: bool,
    /// It has a terminal: this one.
    #[arg(long, short)]
    pub(crate) terminal: bool,
    /// A variable besides the container's own; as NAME alone it is as here.
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// The folder it begins in.
    #[arg(long, short, value_name = "FOLDER")]
    pub(crate) workdir: Option<String>,
    /// What is run, behind --.
    #[arg(value_name = "COMMAND", required = true, last = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct AppCp {
    /// A path here, or in an app, as shop:/var/log.
    #[arg(value_name = "FROM")]
    pub(crate) from: String,
    /// The other one: a folder that is there, or a new name.
    #[arg(value_name = "TO")]
    pub(crate) to: String,
    /// The replica of this lease; without it the first.
    #[arg(long, value_name = "LEASE")]
    pub(crate) lease: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct AppForward {
    #[command(flatten)]
    pub(crate) name: AppName,
    /// A port of the container, or one of this machine before it; 0 for any.
    #[arg(value_name = "[HERE:]PORT", value_parser = ports)]
    pub(crate) ports: (u16, u16),
    /// Of the replica of this lease; without it of the first.
    #[arg(long, value_name = "LEASE")]
    pub(crate) lease: Option<u64>,
}

/// `5432` or `15432:5432`.
fn ports(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| text.parse::<u16>().map_err(|_| format!("{text:?} is no port: 1 to 65535"));
    let (here, there) = text.split_once(':').unwrap_or((text, text));
    match (port(here)?, port(there)?) {
        (_, 0) => Err("port 0 is none of a container".to_owned()),
        ports => Ok(ports),
    }
}

#[derive(Args, Debug)]
pub(crate) struct AppStats {
    #[command(flatten)]
    pub(crate) name: AppName,
    /// Again each so many seconds, until it is stopped.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) every: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct AppAsk {
    #[command(flatten)]
    pub(crate) name: AppName,
    /// Path and query.
    #[arg(value_name = "PATH", default_value = "/")]
    pub(crate) path: String,
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub(crate) method: String,
    /// As "accept: text/plain"; may be given several times.
    #[arg(long = "header", value_name = "HEADER")]
    pub(crate) headers: Vec<String>,
    /// A file with the request's body.
    #[arg(long, value_name = "FILE")]
    pub(crate) body: Option<PathBuf>,
    /// Write here what its host signs of the request, asked for when the answer is over.
    #[arg(long, value_name = "FILE")]
    pub(crate) transcript: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct AppSamples {
    #[command(flatten)]
    pub(crate) name: AppName,
    /// A folder to write each to, as LEASE-NUMBER.request.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct AppReplay {
    /// A transcript, as `app ask --transcript` or `app samples` wrote it.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The component that ran, or its text.
    #[arg(long, value_name = "FILE")]
    pub(crate) component: PathBuf,
    /// The node that has to have signed it.
    #[arg(long, value_name = "NODE")]
    pub(crate) host: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct AppScale {
    #[command(flatten)]
    pub(crate) name: AppName,
    /// How many are to run.
    #[arg(value_name = "REPLICAS", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) replicas: u8,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct AppUpdate {
    #[command(flatten)]
    pub(crate) name: AppName,
    /// A component, an image, or an app.toml that names one, as for `hodei deploy`; without it what runs, with the flags.
    #[arg(value_name = "WHAT", conflicts_with_all = ["resume", "abort"])]
    pub(crate) file: Option<PathBuf>,
    /// Go on with an update that was cut short.
    #[arg(long, conflicts_with = "abort")]
    pub(crate) resume: bool,
    /// End what an update that was cut short left; the release that runs is not touched.
    #[arg(long)]
    pub(crate) abort: bool,
    #[command(flatten)]
    pub(crate) gate: Gate,
    #[command(flatten)]
    pub(crate) size: Size,
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) terms: Terms,
    #[command(flatten)]
    pub(crate) container: Container,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

impl AppUpdate {
    /// What the flags say.
    pub(crate) fn draft(&self) -> Draft {
        drafted((&self.size, &self.place, &self.terms, &self.container))
    }
}

#[derive(Args, Debug)]
#[command(next_help_heading = "When it takes over")]
pub(crate) struct Gate {
    /// All of its replicas have to be ready by then, or it is taken back.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = hodei_sdk::app::secs)]
    pub(crate) deadline: u64,
    /// So long they have to stay so.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = hodei_sdk::app::secs)]
    pub(crate) probation: u64,
    /// So long the replicas before end what they were asked.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = hodei_sdk::app::secs)]
    pub(crate) drain: u64,
    /// A path that each of its replicas has to answer with a status from 200 to 399 meanwhile, as /health.
    #[arg(long, value_name = "PATH")]
    pub(crate) check: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct AppRollback {
    #[command(flatten)]
    pub(crate) name: AppName,
    #[arg(value_name = "RELEASE")]
    pub(crate) release: Option<u32>,
    #[command(flatten)]
    pub(crate) gate: Gate,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(crate) struct AppDrill {
    #[command(flatten)]
    pub(crate) name: AppName,
    /// The replica of this lease, as `hodei app show` numbers them.
    #[arg(long, value_name = "LEASE", group = "which")]
    pub(crate) replica: Option<u64>,
    /// All replicas on this host, by the beginning of its key.
    #[arg(long, value_name = "NODE", group = "which")]
    pub(crate) host: Option<String>,
    /// All replicas in this zone.
    #[arg(long, value_name = "ZONE", group = "which")]
    pub(crate) zone: Option<String>,
    /// The door that is asked meanwhile, where `hodei app serve` listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) door: SocketAddr,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct AppRenew {
    #[command(flatten)]
    pub(crate) name: AppName,
    /// How much longer, as 24h.
    #[arg(value_name = "TIME", value_parser = hodei_sdk::app::secs)]
    pub(crate) secs: u64,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Subcommand, Debug)]
pub(crate) enum AppVolume {
    /// List an app's volumes, and what is stored of each.
    #[command(visible_alias = "ls")]
    List(AppName),
    /// Store what is on a volume now.
    Snapshot(VolumeName),
    /// Store what is on a volume now, and write that as a tar.
    Backup(VolumeBackup),
    /// Put what a tar has in the place of what is on a volume: the app is placed again with it.
    Restore(VolumeRestore),
}

#[derive(Args, Debug)]
pub(crate) struct VolumeName {
    #[command(flatten)]
    pub(crate) name: AppName,
    /// The volume's name.
    #[arg(value_name = "VOLUME")]
    pub(crate) volume: String,
}

#[derive(Args, Debug)]
pub(crate) struct VolumeBackup {
    #[command(flatten)]
    pub(crate) what: VolumeName,
    /// The tar, which is written over.
    #[arg(value_name = "FILE")]
    pub(crate) file: String,
    /// What was stored last, without storing it anew: its host need not be there.
    #[arg(long)]
    pub(crate) stored: bool,
}

#[derive(Args, Debug)]
pub(crate) struct VolumeRestore {
    #[command(flatten)]
    pub(crate) what: VolumeName,
    /// The tar.
    #[arg(value_name = "FILE")]
    pub(crate) file: String,
    /// Agree beforehand.
    #[arg(short = 'y', long)]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct AppDelete {
    #[command(flatten)]
    pub(crate) name: AppName,
    /// Do not store what is on its volumes before; what was stored stays.
    #[arg(long)]
    pub(crate) unsaved: bool,
    /// Remove what is stored of its volumes, too.
    #[arg(long)]
    pub(crate) volumes: bool,
    #[command(flatten)]
    pub(crate) plan: Plan,
}

#[derive(Args, Debug)]
pub(crate) struct AppServe {
    /// Where to listen, on this machine alone.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) process: Process,
}
