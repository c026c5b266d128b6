//! Let several processes write one bucket, break them, their lines and a provider, and find every word kept.
//!
//! Real are the ledger's modules and mempools, the providers' shard stores, and the client as a whole; simulated are
//! the network, the disks and the order of blocks. A run: three processes of one owner, two of which share an account,
//! put, replace, remove and count in one bucket. They are killed at any moment and right after an answer, stand still
//! longer than a term with a swap half sent, give up requests, and lose questions and answers; one provider goes back to
//! an older disk again and again, others go away and return, now and then so many that nothing may be answered. Then
//! everything is calm, what nothing names is released, and a reader who was never there compares the bucket with what
//! was told.

mod care;
mod crowd;
mod fleet;
mod law;
mod ledger;
mod links;
mod machine;
mod passes;
mod process;
mod tale;
mod theft;
mod unreached;

use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall as _;
use commonware_runtime::{
    Clock as _, Runner as _, Spawner as _, Supervisor as _,
    deterministic::{Context, Runner},
};
use fleet::{Fleet, HOSTS, Wire};
use futures::{
    StreamExt as _,
    channel::mpsc,
    future::{Either, select},
};
use hodei_ledger::account::{Account, Order, address_of};
use hodei_sdk::{condition::Condition, plan::Wish};
use hodei_types::{
    abi::{IProviders, PROVIDERS, operator_consent, pack_addresses},
    ack::Signer,
    chain::Chain,
};
use law::Law;
use ledger::{CHAIN_ID, Door, Ledger, coins};
use machine::{Dice, Disk, Mood};
use process::{BUCKET, Ours, Payer, Process, World, content, digest, get, open, put, spender_key};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};
use tale::{Counts, Tale};

const COIN: u64 = 1_000_000_000_000_000_000;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE_MS: u64 = 60_000;
/// After it a request that is not answered never will be.
const HANGS: Duration = Duration::from_secs(15 * 60);
/// Longer than a swap that nobody answered may still come, and its journal is kept.
const SETTLED: Duration = Duration::from_secs(13 * 60);
/// The provider that forgets.
const FORGETFUL: usize = 2;

fn operator(host: usize) -> [u8; 32] {
    [50 + host as u8; 32]
}

/// A cloud of six providers with one bucket, which has deals with all of them, or with those of its regions.
struct Scene {
    context: Context,
    world: World,
    fleet: Arc<Fleet>,
}

impl Scene {
    fn now_ms(&self) -> u64 {
        self.context.current().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
    }

    async fn new(context: Context) -> Self {
        let zones = ["attic", "cellar", "office", "attic", "cellar", "office"];
        Self::with(context, zones, &Wish::default()).await
    }

    async fn with(context: Context, zones: [&str; HOSTS], wish: &Wish) -> Self {
        let dice = Dice::new(&context);
        let address = |secret: &[u8; 32]| address_of(secret).expect("small numbers are secrets");
        let mut rich: Vec<(Address, U256)> = (0..HOSTS).map(|host| (address(&operator(host)), coins(1_000))).collect();
        rich.push((Payer::Owner.address(), coins(1_000_000)));
        rich.push((Payer::Custodian.address(), coins(1_000)));
        let ledger = Ledger::start(&context, &dice, &rich);
        let fleet = Fleet::start(&context, &dice, &ledger).await;
        let door: Arc<dyn Chain> = Arc::new(Door::new(&ledger, context.child("door"), &dice, &Mood::default(), 0));
        for (host, zone) in zones.into_iter().enumerate() {
            let account = Account::new(door.clone(), &operator(host)).unwrap();
            let node = fleet.signer(host).node();
            let possession = fleet.signer(host).sign(&operator_consent(CHAIN_ID, account.address(), node.0.into()));
            let offer = IProviders::Offer {
                zone: zone.into(),
                network: "as64500".into(),
                addresses: pack_addresses(&[([127, 0, 0, 1], 4000 + host as u16).into()]),
                capacityBytes: 1 << 40,
                priceStore: 1000,
                priceRead: 1,
                class: 0,
            };
            let call = IProviders::registerCall { node: node.0.into(), offer, possession: possession.to_vec().into() };
            let order = Order::call(PROVIDERS, call.abi_encode(), 3_000_000).with_value(coins(100));
            account.execute(&order).await.unwrap();
        }
        let owner = Payer::Owner.wallet(door);
        for number in 0..2 {
            owner.clone().with_spender(&spender_key(number)).unwrap().set_budget(coins(10_000)).await.unwrap();
        }
        let (tale, is_ending) = (Arc::new(Tale::default()), Arc::new(AtomicBool::new(false)));
        let world = World { ledger, dice, tale, is_ending };
        let scene = Self { context, world, fleet };
        // The first spending account makes the bucket, and so holds its first term.
        let wallet = owner.with_spender(&spender_key(0)).unwrap();
        let maker = scene.cloud_of(wallet).await;
        let plan = maker.plan(wish).await.unwrap();
        let (k, n) = wish.code.unwrap_or((3, 6));
        assert_eq!((plan.shape.k(), plan.shape.n(), plan.shape.t()), (k, n, 1));
        maker.create_bucket(BUCKET, &plan).await.unwrap();
        maker.close().await.unwrap();
        scene
    }

    fn wire(&self, number: u8) -> Wire {
        Wire { fleet: self.fleet.clone(), me: Signer::new(&[200 + number; 32]).node(), mood: Mood::default() }
    }

    async fn cloud_of(&self, wallet: hodei_sdk::wallet::Wallet) -> Ours {
        let wire = self.wire(50);
        let machine = machine::Machine::new(self.context.child("maker"), Disk::default(), wire.mood.clone());
        Ours::open(machine, wire.clone(), wire.me, wallet, None).await.unwrap()
    }

    fn process(&self, number: u64, payer: Payer) -> Process {
        let wire = self.wire(number as u8);
        Process { number, payer, disk: Disk::default(), mood: wire.mood.clone(), wire, running: None }
    }

    /// A cloud for the rest of the run, on a process's machine.
    async fn cloud(&self, process: &Process) -> Ours {
        let context = self.context.child("later");
        open(context, &self.world, process.payer, process.disk.clone(), process.wire.clone()).await
    }

    /// Reads the whole bucket on a machine that was never there, and says what is wrong with it.
    async fn judge(&self) -> Vec<String> {
        let reader = self.cloud(&self.process(40, Payer::Owner)).await;
        let (mut found, mut wrong) = (BTreeMap::new(), Vec::new());
        let mut after: Option<String> = None;
        loop {
            let page = match reader.list(BUCKET, "", after.as_deref(), None, 1000).await {
                Ok(page) => page,
                Err(error) => return vec![format!("the index cannot be read: {error}")],
            };
            for (key, entry) in page.entries {
                // The line to the ledger drops a question now and then; what is lost stays lost.
                let mut got = get(&reader, &key).await;
                for _ in 0..3 {
                    if got.is_ok() {
                        break;
                    }
                    got = get(&reader, &key).await;
                }
                match got {
                    Ok(Some((bytes, etag))) => {
                        let hash = digest(&bytes);
                        let is_listed = entry.size_bytes() == bytes.len() as u64 && entry.etag == etag;
                        if !is_listed || etag != blake3::Hash::from(hash).to_hex().as_str() {
                            wrong.push(format!("{key} is listed as something else than it is"));
                        }
                        if key.starts_with("count/") {
                            let lines = String::from_utf8(bytes).unwrap();
                            let counted: Vec<usize> = lines.lines().map(|line| line.parse().unwrap()).collect();
                            wrong.extend(self.world.tale.judge_count(&key, &counted));
                        }
                        found.insert(key, hash);
                    }
                    Ok(None) => wrong.push(format!("{key} is listed and not there")),
                    Err(error) => wrong.push(format!("{key} cannot be read: {error}")),
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        wrong.extend(self.world.tale.judge(&found));
        self.world.ledger.law(|law| wrong.extend(law.broken.iter().cloned()));
        wrong
    }
}

/// What comes over the processes and the providers.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Kill,
    /// Right after the next answer.
    KillAnswered,
    /// For seconds.
    Still,
    /// Whoever holds the term, for longer than it, with a swap half sent.
    StillBeyondTerm,
    Cut,
    Forget,
    Away,
    Slow,
    /// More providers are away than an answer may be given without, and every process dies of it.
    Dark,
}

const BLOWS: [(Blow, usize); 9] = [
    (Blow::Kill, 3),
    (Blow::KillAnswered, 3),
    (Blow::Still, 2),
    (Blow::StillBeyondTerm, 2),
    (Blow::Cut, 3),
    (Blow::Forget, 3),
    (Blow::Away, 2),
    (Blow::Slow, 2),
    (Blow::Dark, 2),
];

/// What a run left.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    /// Of everything that happened: the same for the same seed, or something is not deterministic.
    fingerprint: String,
    counts: Counts,
    swaps: u64,
    successions: u64,
    fenced: u64,
    conflicts: u64,
    wrong: Vec<String>,
}

/// A run of some minutes.
struct Storm {
    scene: Scene,
    processes: Vec<Process>,
    done: (mpsc::UnboundedSender<u64>, mpsc::UnboundedReceiver<u64>),
    images: Vec<Disk>,
}

impl Storm {
    async fn rage(&mut self) {
        let dice = self.scene.world.dice.clone();
        let mut blows: Vec<Blow> = BLOWS.iter().flat_map(|(blow, times)| vec![*blow; *times]).collect();
        while !blows.is_empty() {
            self.images.push(self.scene.fleet.image(FORGETFUL));
            if self.images.len() > 4 {
                self.images.remove(0);
            }
            self.scene.context.sleep(dice.ms(200..5000)).await;
            let blow = blows.swap_remove(dice.within(0..blows.len() as u64) as usize);
            self.strike(blow).await;
        }
    }

    async fn strike(&mut self, blow: Blow) {
        let (context, fleet) = (self.scene.context.child("strike"), self.scene.fleet.clone());
        let dice = self.scene.world.dice.clone();
        let victim = dice.within(0..self.processes.len() as u64) as usize;
        let other = (FORGETFUL + 1 + dice.within(0..HOSTS as u64 - 1) as usize) % HOSTS;
        match blow {
            Blow::Kill => self.kill(victim).await,
            Blow::KillAnswered => {
                while self.done.1.try_recv().is_ok() {}
                let late = pin!(context.sleep(SECOND * 30));
                let answered = match select(self.done.1.next(), late).await {
                    Either::Left((number, _)) => number,
                    Either::Right(_) => None,
                };
                if let Some(number) = answered {
                    self.kill(number as usize).await;
                }
            }
            Blow::Still => self.processes[victim].mood.stand_still(context.current() + dice.ms(500..9000)),
            Blow::StillBeyondTerm => {
                let ledger = &self.scene.world.ledger;
                let holder = ledger.law(|law| law.buckets.values().next().expect("the bucket").holder);
                for process in self.processes.iter().filter(|process| process.payer.address() == holder) {
                    process.mood.stand_still_at_swap(dice.ms(65_000..95_000));
                }
                context.sleep(dice.ms(50_000..110_000)).await;
            }
            Blow::Cut => self.processes[victim].mood.cut(context.current() + dice.ms(3000..25_000), dice.chance(60)),
            Blow::Forget => {
                let image = self.images[dice.within(0..self.images.len() as u64) as usize].clone();
                fleet.roll_back(FORGETFUL, &image).await;
            }
            Blow::Away => {
                fleet.power_off(other);
                context.sleep(dice.ms(500..9000)).await;
                fleet.power_on(other).await;
            }
            Blow::Dark => {
                let image = fleet.image(FORGETFUL);
                // Three take two shards each, which is all; of two nobody may be left without.
                let away: Vec<usize> = (1..5).map(|step| (FORGETFUL + step) % HOSTS).collect();
                away.iter().for_each(|host| fleet.power_off(*host));
                context.sleep(dice.ms(5000..20_000)).await;
                self.processes.iter_mut().for_each(Process::kill);
                fleet.roll_back(FORGETFUL, &image).await;
                for host in away {
                    fleet.power_on(host).await;
                }
                let Self { scene, processes, done, .. } = self;
                processes.iter_mut().for_each(|process| process.start(&scene.context, &scene.world, &done.0));
            }
            Blow::Slow => fleet.slow(other, context.current() + dice.ms(2000..12_000)),
        }
    }

    async fn kill(&mut self, victim: usize) {
        let Self { scene, processes, done, .. } = self;
        processes[victim].kill();
        scene.context.sleep(scene.world.dice.ms(1..4000)).await;
        processes[victim].start(&scene.context, &scene.world, &done.0);
    }

    /// Ends what runs, lets what nothing names be released, and judges.
    async fn end(mut self) -> Outcome {
        let Scene { context, world, .. } = &self.scene;
        world.is_ending.store(true, Ordering::Relaxed);
        let mut wrong = Vec::new();
        for process in &mut self.processes {
            process.mood.calm();
            let Some(running) = process.running.take() else { continue };
            if let Either::Right(_) = select(running, pin!(context.sleep(HANGS))).await {
                wrong.push(format!("process {} waits for something that never comes", process.number));
            }
        }
        // The next process on each machine does what the killed ones left to do.
        let mut later = Vec::new();
        for process in &self.processes {
            later.push(self.scene.cloud(process).await);
        }
        context.sleep(SETTLED).await;
        wrong.extend(self.scene.judge().await);
        for (number, cloud) in later.iter().enumerate() {
            let key = format!("after/{number}");
            let bytes = content(number, 5000);
            let deed = world.tale.begin(&key, Some(digest(&bytes)));
            let mut tries = 0;
            // Each waits for the term of the one before.
            while let Err(error) = put(cloud, &key, bytes.clone(), Condition::default()).await {
                tries += 1;
                if !error.is_temporary() || tries > 100 {
                    wrong.push(format!("after all that nothing can be put: {error}"));
                    break;
                }
                context.sleep(SECOND * 5).await;
            }
            world.tale.end(deed, tale::Fate::Unknown);
        }
        wrong.extend(self.scene.judge().await);
        let look = |law: &Law| (law.swaps, law.successions, law.fenced, law.conflicts);
        let (swaps, successions, fenced, conflicts) = world.ledger.law(look);
        let (fingerprint, counts) = (context.auditor().state(), world.tale.counts());
        Outcome { fingerprint, counts, swaps, successions, fenced, conflicts, wrong }
    }
}

fn storm(seed: u64) -> Outcome {
    Runner::seeded(seed).start(|context| async move {
        let scene = Scene::new(context).await;
        let third = if seed.is_multiple_of(2) { Payer::Spender(1) } else { Payer::Owner };
        let payers = [Payer::Spender(0), Payer::Spender(0), third];
        let mut processes: Vec<Process> =
            payers.into_iter().zip(0..).map(|(payer, number)| scene.process(number, payer)).collect();
        let done = mpsc::unbounded();
        for process in &mut processes {
            process.start(&scene.context, &scene.world, &done.0);
        }
        let mut storm = Storm { scene, processes, done, images: Vec::new() };
        storm.rage().await;
        storm.end().await
    })
}

/// The seeds a test runs: `HODEI_SEEDS` of them, or `default`.
fn seeds(default: u64) -> u64 {
    std::env::var("HODEI_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn writers_of_one_bucket_lose_no_update_whatever_dies() {
    let (next, count) = (AtomicU64::new(0), seeds(16));
    let (outcomes, failed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        break;
                    }
                    match catch_unwind(AssertUnwindSafe(|| storm(seed))) {
                        Ok(outcome) if outcome.wrong.is_empty() => outcomes.lock().unwrap().push(outcome),
                        Ok(outcome) => {
                            eprintln!("seed {seed}: {:#?}", outcome.wrong);
                            failed.lock().unwrap().push(seed);
                        }
                        Err(_) => failed.lock().unwrap().push(seed),
                    }
                }
            });
        }
    });
    let (outcomes, failed) = (outcomes.into_inner().unwrap(), failed.into_inner().unwrap());
    assert!(failed.is_empty(), "of {count} seeds these failed: {failed:?}");
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let (done, unknown) = (sum(|run| run.counts.done), sum(|run| run.counts.unknown));
    let (swaps, successions) = (sum(|run| run.swaps), sum(|run| run.successions));
    let (fenced, conflicts) = (sum(|run| run.fenced), sum(|run| run.conflicts));
    println!(
        "{count} seeds: {done} answered, {} refused and {unknown} unanswered requests, {swaps} swaps, {successions} \
         successions, {fenced} fenced and {conflicts} conflicting swaps in blocks",
        sum(|run| run.counts.refused)
    );
    // What is to be survived did happen.
    assert!(done > 100 * count && unknown > 5 * count && successions > count, "too little happened");
    assert!(fenced > 0 && conflicts > count, "nobody was too late");
}

#[test]
fn a_seed_of_writers_repeats_itself() {
    for seed in [3, 4] {
        assert_eq!(storm(seed), storm(seed), "seed {seed}");
    }
}

/// A swap that waits in a mempool while the ledger stands still: its shards stay until it can come no more.
#[test]
fn what_a_halted_ledger_takes_late_is_whole() {
    Runner::seeded(1).start(|context| async move {
        let scene = Scene::new(context).await;
        let cloud = scene.cloud(&scene.process(0, Payer::Spender(0))).await;
        let tale = &scene.world.tale;
        for (number, is_halted) in [(0, false), (1, true)] {
            let (key, bytes) = (format!("key {number}"), content(number, 7000));
            let deed = tale.begin(&key, Some(digest(&bytes)));
            scene.world.ledger.halt(is_halted);
            let result = put(&cloud, &key, bytes, Condition::default()).await;
            assert_eq!(result.is_err(), is_halted, "{result:?}");
            tale.end(deed, if is_halted { tale::Fate::Unknown } else { tale::Fate::Done });
        }
        scene.context.sleep(SETTLED * 2).await;
        scene.world.ledger.halt(false);
        scene.context.sleep(SECOND * 5).await;
        let reader = scene.cloud(&scene.process(1, Payer::Owner)).await;
        assert!(get(&reader, "key 1").await.unwrap().is_some(), "the pool kept it, and the term was not over");
        assert_eq!(scene.judge().await, Vec::<String>::new());
        scene.context.sleep(SETTLED).await;
        assert_eq!(scene.judge().await, Vec::<String>::new());
    });
}

/// A request that is given up while others have the turn: nobody knows of it any more, and its shards go.
#[test]
fn a_change_that_nobody_waits_for_is_not_made_later() {
    Runner::seeded(2).start(|context| async move {
        let scene = Scene::new(context).await;
        let cloud = scene.cloud(&scene.process(0, Payer::Spender(0))).await;
        put(&cloud, "first", content(0, 3000), Condition::default()).await.unwrap();
        // While no block comes, whoever has the turn keeps it.
        scene.world.ledger.halt(true);
        let holding = cloud.clone();
        let turn = scene
            .context
            .child("turn")
            .spawn(move |_| async move { put(&holding, "second", content(1, 3000), Condition::default()).await });
        scene.context.sleep(SECOND * 3).await;
        {
            let given_up = pin!(put(&cloud, "given up", content(2, 3000), Condition::default()));
            let patience = pin!(scene.context.sleep(SECOND * 5));
            assert!(matches!(select(given_up, patience).await, Either::Right(_)), "it waits for its turn");
        }
        scene.world.ledger.halt(false);
        turn.await.unwrap().unwrap();
        scene.context.sleep(SETTLED).await;
        put(&cloud, "third", content(3, 3000), Condition::default()).await.unwrap();
        let listed = cloud.list(BUCKET, "", None, None, 1000).await.unwrap();
        for (key, _) in &listed.entries {
            get(&cloud, key).await.unwrap_or_else(|error| panic!("{key} is listed and cannot be read: {error}"));
        }
        let keys: Vec<&str> = listed.entries.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["first", "second", "third"]);
    });
}
