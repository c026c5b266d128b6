//! Show one promise after the other, and fail when one does not hold.

use super::{
    Step, Tour,
    cloud::{Cloud, PROVIDERS, VALIDATORS, WINDOW_SECS, ZONES},
};
use crate::{
    data,
    fault::{self, Fault, Result},
    money, out,
    session::{Session, chain_fault, sdk_fault},
};
use alloy_primitives::{Address, U256};
use hodei_sdk::{
    Local, market,
    plan::Wish,
    storage::Wait,
    upload::{Options, Put},
    verify::{hash_content, verify as verify_receipt},
};
use hodei_types::transport::NodeKey;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Write as _},
    path::PathBuf,
    time::Duration,
};

const BUCKET: &str = "demo";
const KEY: &str = "photo.raw";
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What the steps after `put` look at.
pub(super) struct Stored {
    pub(super) cloud: Local,
    put: Put,
    file: PathBuf,
    receipt: PathBuf,
}

pub(super) fn failed(what: impl std::fmt::Display, help: &str) -> Fault {
    Fault::new(&fault::STEP, what, help)
}

/// Four validators agree, six providers are registered in three zones.
pub(super) async fn start(tour: &Tour, cloud: &mut Cloud) -> Result<()> {
    cloud.start_validators().await?;
    tour.say(&format!("{VALIDATORS} validators, each a process with one share of the network's key"));
    cloud.start_providers().await?;
    tour.say(&format!("{PROVIDERS} storage providers in the zones {}", ZONES.join(", ")));
    if tour.sabotages(Step::Start) {
        cloud.validators[0].kill().await;
    }
    for child in cloud.children() {
        child.ready(Duration::ZERO).await?;
    }
    Ok(())
}

/// The wallet has its coins, and money moves.
pub(super) async fn fund(tour: &Tour, cloud: &mut Cloud, session: &Session) -> Result<()> {
    if tour.sabotages(Step::Fund) {
        for validator in &mut cloud.validators[..2] {
            validator.kill().await;
        }
    }
    let wallet = session.wallet()?;
    let has = loop {
        match wallet.balance().await {
            Ok(has) if !has.is_zero() => break has,
            // Nothing is said of accounts before the first block.
            Err(error) if !error.is_temporary() => return Err(sdk_fault(error)),
            _ => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let to = Address::repeat_byte(0x0d);
    let sent = U256::from(10u64).pow(U256::from(18));
    let receipt = wallet.send(to, sent).await.map_err(sdk_fault)?;
    let got = session.chain.account(to).await.map_err(chain_fault)?.balance;
    if got != sent {
        return Err(failed("the coin sent did not arrive", "see the validators' logs")
            .between(money::show(sent), money::show(got)));
    }
    tour.say(&format!(
        "wallet {} holds {}; one coin sent, final in block {}",
        wallet.owner(),
        money::show(has),
        receipt.height
    ));
    loop {
        let offers = market::offers(&*session.chain).await.map_err(chain_fault)?;
        if offers.iter().filter(|offer| offer.open).count() >= PROVIDERS {
            tour.say(&format!("{} providers offer room on the ledger", offers.len()));
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A file goes in, sealed and coded; its receipt comes out.
pub(super) async fn put(tour: &Tour, cloud: &mut Cloud, session: &Session) -> Result<Stored> {
    let file = cloud.folder.join(KEY);
    write_random(&file, tour.size)?;
    let local = session.cloud().await?;
    let plan = local.plan(&Wish::default()).await.map_err(sdk_fault)?;
    for line in plan.lines() {
        tour.say(&line);
    }
    local.create_bucket(BUCKET, &plan).await.map_err(sdk_fault)?;
    if tour.sabotages(Step::Put) {
        // Two are left, each of which may take two shards of a stripe: fewer than the quorum of five.
        for provider in &mut cloud.providers[..4] {
            provider.kill().await;
        }
    }
    let source = tokio::fs::File::open(&file).await.map_err(|error| Fault::io(&file, "opening the file", &error))?;
    let options = Options { wait: Wait::Full, ..Options::default() };
    let put = local.put(BUCKET, KEY, data::pieces(source), options).await.map_err(sdk_fault)?;
    let places = local.locate(BUCKET, KEY, None).await.map_err(sdk_fault)?;
    tour.say(&format!(
        "stored {} as hodei://{BUCKET}/{KEY}, every shard acknowledged:",
        out::bytes(put.entry.size_bytes())
    ));
    for place in &places {
        let node = crate::status::short(&place.node.to_string());
        tour.say(&format!("  {:<7} node {node}  {} shards, {}", place.zone, place.shards, out::bytes(place.bytes)));
    }
    let receipt = cloud.folder.join("photo.receipt");
    data::receipt(&local, &put, &receipt).await?;
    local.flush().await.map_err(sdk_fault)?;
    Ok(Stored { cloud: local, put, file, receipt })
}

/// Two providers die, and the same bytes come back.
pub(super) async fn get(tour: &Tour, cloud: &mut Cloud, stored: &Stored) -> Result<()> {
    let dead = if tour.sabotages(Step::Get) { 4 } else { 2 };
    for provider in &mut cloud.providers[..dead] {
        provider.kill().await;
    }
    tour.say(&format!("killed {dead} of {PROVIDERS} providers, without a word to them"));
    let back = cloud.folder.join("photo.back");
    data::get(&stored.cloud, BUCKET, KEY, &back.display().to_string(), crate::out::Out { json: false }).await?;
    let hash = |path: &PathBuf| {
        File::open(path).and_then(hash_content).map_err(|error| Fault::io(path, "reading the file", &error))
    };
    let (sent, got) = (hash(&stored.file)?, hash(&back)?);
    if sent != got {
        return Err(failed("what came back is another file", "see the providers' logs")
            .between(hex::encode(sent), hex::encode(got)));
    }
    tour.say(&format!("read from the others: {}, bit for bit the same", out::bytes(tour.size)));
    Ok(())
}

/// The living providers proved, in a window, that they hold it, and are paid.
pub(super) async fn pay(tour: &Tour, cloud: &mut Cloud, session: &Session, stored: &Stored) -> Result<()> {
    if tour.sabotages(Step::Pay) {
        for provider in &mut cloud.providers {
            provider.kill().await;
        }
    }
    tour.say(&format!("in each window of {WINDOW_SECS} s, 20 pieces drawn by lot are asked of each provider"));
    let mut living: Vec<NodeKey> = Vec::new();
    for provider in cloud.providers.iter_mut().skip(2) {
        let key = provider.home.read_ready().map(|ready| ready.node);
        let bytes = key.and_then(|key| hex::decode(key).ok()).and_then(|key| key.try_into().ok());
        living.extend(bytes.map(NodeKey));
    }
    let first = earned(stored, &living).await?;
    loop {
        let now = earned(stored, &living).await?;
        // Each of them again, since this step began: a proof of today, not of before.
        let all_earn = now.len() >= living.len()
            && now.iter().all(|(node, (_, wei))| first.get(node).is_none_or(|(_, before)| wei > before));
        if !now.is_empty() && all_earn {
            for (node, (zone, wei)) in &now {
                let node = crate::status::short(&node.to_string());
                tour.say(&format!(
                    "  {zone:<7} node {node} proved what it holds and earned {} so far",
                    money::show(*wei)
                ));
            }
            return Ok(());
        }
        let head = session.chain.head().await.map_err(chain_fault)?;
        session.chain.wait(head.height).await.map_err(chain_fault)?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What each of these providers earned with the bucket, paid out or not yet.
async fn earned(stored: &Stored, living: &[NodeKey]) -> Result<BTreeMap<NodeKey, (String, U256)>> {
    let deals = stored.cloud.deals(BUCKET).await.map_err(sdk_fault)?;
    let deals = deals.into_iter().filter(|deal| living.contains(&deal.offer.node));
    Ok(deals.map(|deal| (deal.offer.node, (deal.offer.zone, deal.state.paid + deal.state.owed))).collect())
}

/// What was killed runs again, and takes new deals.
pub(super) async fn heal(tour: &Tour, cloud: &mut Cloud, session: &Session) -> Result<()> {
    let back = cloud.restart_dead().await?;
    tour.say(&format!("{back} nodes started again on what their disks hold"));
    let mut is_waiting = false;
    loop {
        let offers = market::offers(&*session.chain).await.map_err(chain_fault)?;
        let suspended = offers.iter().filter(|offer| !offer.open || offer.suspended).count();
        if suspended == 0 {
            tour.say(&format!("all {PROVIDERS} take new deals"));
            return Ok(());
        }
        if !is_waiting {
            is_waiting = true;
            tour.say(&format!("{suspended} missed a proof meanwhile and are suspended until the next one they give"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The receipt proves the put to whoever knows the network key.
pub(super) fn verify(tour: &Tour, cloud: &Cloud, stored: &Stored) -> Result<()> {
    if tour.sabotages(Step::Verify) {
        flip(&stored.receipt)?;
    }
    let bytes = read(&stored.receipt)?;
    let verified = verify_receipt(&bytes, &cloud.dealt.network_key)
        .map_err(|refused| failed(refused, "see the receipt in the demo's folder"))?;
    let content = File::open(&stored.file)
        .and_then(hash_content)
        .map_err(|error| Fault::io(&stored.file, "reading the file", &error))?;
    verified.check_content(&content).map_err(|refused| failed(refused, "see the receipt in the demo's folder"))?;
    tour.say(&format!(
        "a file of {}: the put is anchored in block {}, and {} of {} providers' signatures are in it",
        out::bytes(bytes.len() as u64),
        verified.height,
        verified.promises.len(),
        stored.put.acks.len(),
    ));
    Ok(())
}

/// One flipped bit, and it is refused.
pub(super) fn tamper(tour: &Tour, cloud: &Cloud, stored: &Stored) -> Result<()> {
    let tampered = cloud.folder.join("tampered.receipt");
    std::fs::copy(&stored.receipt, &tampered).map_err(|error| Fault::io(&tampered, "copying the receipt", &error))?;
    if !tour.sabotages(Step::Tamper) {
        flip(&tampered)?;
    }
    match verify_receipt(&read(&tampered)?, &cloud.dealt.network_key) {
        Err(refused) => {
            tour.say(&format!("refused: {refused}"));
            Ok(())
        }
        Ok(_) => Err(failed("a tampered receipt was believed", "do not rely on receipts of this build")),
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Fault::io(path, "reading the receipt", &error))
}

/// Flips one bit in the middle of a file.
fn flip(path: &PathBuf) -> Result<()> {
    let mut bytes = read(path)?;
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    std::fs::write(path, bytes).map_err(|error| Fault::io(path, "writing the receipt", &error))
}

/// Bytes nobody can compress or guess.
fn write_random(path: &PathBuf, size: u64) -> Result<()> {
    let copy = || -> std::io::Result<u64> {
        let mut random = File::open("/dev/urandom")?.take(size);
        let mut file = File::create(path)?;
        let count = std::io::copy(&mut random, &mut file)?;
        file.flush()?;
        Ok(count)
    };
    copy().map(drop).map_err(|error| Fault::io(path, "writing the file to store", &error))
}
