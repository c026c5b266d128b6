//! Make a network, invite to it, join it.

use crate::{
    args::{NetCreate, NetInvite, NetJoin, NetRevoke, Settle},
    context::{Context, Contexts, Member, check_name},
    fault::{self, Fault, Result},
    money,
    out::{Out, table},
    paths::{Paths, write_whole},
    provide::Offer,
    purse::{self, Purse},
    session::{Session, chain_fault, transfer_fault},
    slot::Slot,
    ticket::{ADDRESSES_MAX, Ticket},
};
use alloy_primitives::{Address, U256};
use hodei_node::deal::{DealError, Plan, Seat, deal};
use hodei_sdk::{
    chain::{Account, Order},
    wallet,
};
use hodei_types::{
    ethereum::TRANSFER_GAS,
    key::{KeyError, SecretKey},
    settlement::Settlement,
};
use serde_json::json;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};
use zeroize::Zeroizing;

/// Below four validators none may fail.
const VALIDATORS_USEFUL: usize = 4;
/// Coins each validator begins with: an anchor costs about a ten-thousandth of one, tip included.
const VALIDATOR_COINS: u64 = 1_000;
/// Members named in an invitation.
const INVITE_MEMBERS: usize = 2;
/// The wire's port when a validator's other ports are given: the one before consensus.
const LINK_PORT_BEFORE: u16 = 1;
/// More than an account of ours tips a leader, in wei of gas.
const TIP_MAX: u64 = 2_000_000_000;

/// Refuses validators that could not meet: each needs an address of its own, and the port before it.
fn check_addresses(validators: &[SocketAddr]) -> Result<()> {
    let wrong = |address: &SocketAddr, why: String| {
        let expected = "a HOST:PORT of its own for each validator, where TCP PORT and UDP PORT - 1 are free";
        Err(Fault::new(&fault::USAGE, why, "give each validator an address of its own").between(expected, address))
    };
    let mut taken = std::collections::BTreeSet::new();
    for address in validators {
        if address.port() <= LINK_PORT_BEFORE {
            return wrong(address, format!("no validator can be reached at port {}", address.port()));
        }
        if address.ip().is_unspecified() {
            return wrong(address, format!("nobody can dial {}: name the address others reach it at", address.ip()));
        }
        if !taken.insert(address) {
            return wrong(address, format!("two validators have the address {address}"));
        }
    }
    Ok(())
}

/// How the members of a network to be made settle.
fn settlement(create: &NetCreate) -> Result<Settlement> {
    match (create.settlement, create.currency) {
        (Settle::Coins, None) => Ok(Settlement::Coins),
        (Settle::Barter, None) => Ok(Settlement::Barter),
        (Settle::Invoice, Some(currency)) => Ok(Settlement::Invoice(currency)),
        (Settle::Invoice, None) => Err(Fault::new(
            &fault::USAGE,
            "an invoice is written in a currency",
            "name it: hodei net create … --settlement invoice --currency EUR",
        )),
        (_, Some(_)) => {
            Err(Fault::new(&fault::USAGE, "only what is invoiced has a currency", "add --settlement invoice"))
        }
    }
}

fn settlement_words(settlement: &Settlement) -> &'static str {
    match settlement {
        Settlement::Coins => "coins are money; who offers puts some at risk",
        Settlement::Invoice(_) => "a coin is one of it, invoiced by `hodei wallet statement`; nobody puts any at risk",
        Settlement::Barter => "coins count what members do for each other; nobody puts any at risk",
    }
}

/// What is settled in, and of invoices the currency.
fn settlement_name(settlement: &Settlement) -> String {
    match settlement.currency() {
        Some(currency) => format!("{} ({currency})", settlement.name()),
        None => settlement.name().to_owned(),
    }
}

/// `hodei net create`.
pub(crate) fn create(create: &NetCreate, passphrase: Option<&Path>, paths: &Paths, out: Out) -> Result<()> {
    check_name(&create.name)?;
    let contexts = Contexts::of(paths);
    let coins = money::parse(&create.coins)?;
    let settlement = settlement(create)?;
    let folder = match &create.folder {
        Some(folder) => absolute(folder)?,
        None => paths.data.join("networks").join(&create.name),
    };
    let count = create.validators.len();
    check_addresses(&create.validators)?;
    let may_fail = (count - 1) / 3;
    let plan = [
        ("network", create.name.clone(), "the name members see"),
        ("validators", count.to_string(), "the addresses given; more than two thirds must be up"),
        ("ports", "PORT and PORT - 1".into(), "each validator: TCP for agreement, UDP for everybody else"),
        ("may fail", may_fail.to_string(), "without the chain halting"),
        ("coins", money::show(coins), "in the wallet made here"),
        ("for anchors", money::show(validator_coins()), "in each validator's account, which anchors its log"),
        ("window", format!("{} s", create.window), "each provider proves once in it, and is paid"),
        ("settled in", settlement_name(&settlement), settlement_words(&settlement)),
        ("folder", folder.display().to_string(), "genesis file, and a folder with keys for each validator"),
        ("price", money::show(U256::ZERO), "it is your network"),
    ];
    let rows: Vec<_> =
        plan.iter().map(|(what, value, why)| vec![(*what).into(), value.clone(), format!("({why})")]).collect();
    out.say(table(&["SETTING", "VALUE", ""], &rows));
    if count < VALIDATORS_USEFUL {
        out.say(format!("note: with {count} validators the chain halts when one is away; four survive that"));
    }
    if create.plan.dry_run {
        out.result(
            "",
            &json!({
                "schema": "hodei.net.plan/1", "name": create.name, "validators": count, "may_fail": may_fail,
                "coins_wei": coins.to_string(), "window_secs": create.window, "folder": folder, "price_wei": "0",
                "settlement": settlement.name(), "currency": settlement.currency(),
            }),
        );
        return Ok(());
    }
    let passphrase = passphrase.map(|file| purse::passphrase(Some(file))).transpose()?;
    out.confirm("Make it?", create.plan.yes)?;

    // Everything that can be refused is refused before the first file is written.
    if contexts.names()?.contains(&create.name) {
        return Err(exists("a context", &create.name));
    }
    let wallet_folder = paths.data.join("wallets").join(&create.name);
    if wallet_folder.exists() {
        return Err(exists("a wallet", &create.name).at(wallet_folder.display()));
    }
    let main = Purse::fresh()?;
    let owner = wallet::address(&main).expect("a fresh key is an account's");
    let seats = create.validators.iter().map(|&consensus| Seat {
        consensus,
        link: SocketAddr::new(consensus.ip(), consensus.port().saturating_sub(LINK_PORT_BEFORE)),
        rpc: None,
        status: None,
    });
    let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let plan = Plan {
        name: create.name.clone(),
        timestamp,
        validators: seats.collect(),
        allocations: vec![(owner, coins)],
        validator_coins: validator_coins(),
        window_secs: create.window,
        slashing: None,
        settlement,
    };
    let dealt = deal(&plan, folder.clone(), rand::rng()).map_err(deal_fault)?;
    let purse = Purse::create(wallet_folder, &main, passphrase.as_ref().map(|text| text.as_str()))?;
    let member = dealt.keys.iter().zip(&plan.validators);
    let context = Context {
        network_key: dealt.network_key.to_string(),
        wallet: purse.folder().into(),
        doors: Default::default(),
        node: None,
        genesis: Some(folder.join(hodei_node::deal::GENESIS_FILE)),
        demo: false,
        member: member.map(|(key, seat)| Member { key: hex::encode(key), addresses: vec![seat.link] }).collect(),
    };
    contexts.save(&create.name, &context)?;
    if !purse.is_sealed() {
        out.say("note: the main key is kept in clear, readable by you alone; a backup seals it: hodei key backup FILE");
    }
    out.result(
        format!(
            "made network {} (chain id {}) in {}\nnetwork key {}\nwallet {owner}",
            create.name,
            dealt.genesis.chain_id(),
            folder.display(),
            dealt.network_key
        ),
        &json!({
            "schema": "hodei.net.create/1", "name": create.name, "network_key": dealt.network_key.to_string(),
            "chain_id": dealt.genesis.chain_id(), "genesis": dealt.network_key.genesis.to_string(), "folder": folder,
            "validators": dealt.homes.iter().map(|home| home.path().to_owned()).collect::<Vec<_>>(),
            "wallet": owner.to_string(), "context": create.name,
        }),
    );
    out.next(format!(
        "copy each validator's folder to its machine, and there: hodei chain validator run --folder {}",
        dealt.homes[0].path().display()
    ));
    Ok(())
}

/// `hodei net invite`: an account with coins in it, and whom to ask.
pub(crate) async fn invite(invite: &NetInvite, session: &Session, paths: &Paths, out: Out) -> Result<()> {
    let coins = money::parse(&invite.coins)?;
    let fee = sweep_fee(session.chain.head().await.map_err(chain_fault)?.base_fee);
    // None at all invites somebody who only reads.
    if !coins.is_zero() && coins <= fee {
        let message = "nobody could take what is in it: the fee of the transfer that does is not less";
        return Err(Fault::new(&fault::USAGE, message, "put more into it with --coins, or 0 for who only reads")
            .between(format!("0, or more than {}", money::exact(fee)), money::exact(coins)));
    }
    out.say(format!(
        "An invitation to {} with {} in it, from your main account, plus the fee of one transfer.",
        session.name,
        money::show(coins)
    ));
    if invite.plan.dry_run {
        out.result("", &json!({ "schema": "hodei.net.invite.plan/1", "coins_wei": coins.to_string() }));
        return Ok(());
    }
    out.confirm("Fund it?", invite.plan.yes)?;
    let wallet = session.owner_wallet()?;
    let key = Purse::fresh()?;
    let account = wallet::address(&key).expect("a fresh key is an account's");
    // Kept first: coins sent to a key that is nowhere would be lost.
    let kept = kept_in(paths).join(format!("{}-{account}.key", session.name));
    write_whole(&kept, format!("{}\n", &*key.backup()).as_bytes(), 0o600)?;
    if let Err(error) = wallet.send(account, coins).await {
        // Unless coins may have reached it, or still may, the key is worth nothing.
        let is_over = !matches!(error, hodei_sdk::Fault::Pending { .. });
        if is_over && session.chain.account(account).await.is_ok_and(|account| account.balance.is_zero()) {
            std::fs::remove_file(&kept).map_err(|error| Fault::io(&kept, "removing an unused key", &error))?;
        }
        return Err(transfer_fault(error));
    }
    let members = session.context.member.iter().filter(|member| !member.addresses.is_empty()).take(INVITE_MEMBERS);
    let ticket = Ticket {
        network_key: session.network_key,
        name: session.name.clone(),
        secret: Zeroizing::new(*key.bytes()),
        members: members
            .map(|member| {
                let addresses = member.addresses.iter().copied().take(ADDRESSES_MAX).collect();
                Member { key: member.key.clone(), addresses }
            })
            .collect(),
    };
    let text = ticket.text();
    out.result(
        &*text,
        &json!({ "schema": "hodei.net.invite/1", "ticket": *text, "account": account.to_string(), "coins_wei": coins.to_string() }),
    );
    out.say("Whoever holds this word holds the coins, until somebody joins with it or you take it back.");
    out.next(format!("hodei -C {} net revoke {account}", session.name));
    Ok(())
}

/// A ticket as given, or from standard input.
pub(crate) fn read_ticket(join: &NetJoin) -> Result<Ticket> {
    if join.ticket != "-" {
        return Ticket::parse(join.ticket.trim());
    }
    let mut text = Zeroizing::new(String::new());
    std::io::stdin()
        .read_line(&mut text)
        .map_err(|error| Fault::new(&fault::TICKET, error, "give the invitation as an argument"))?;
    Ticket::parse(text.trim())
}

fn kept_in(paths: &Paths) -> PathBuf {
    paths.data.join("invitations")
}

/// `hodei net revoke`: what is left in an invitation made here comes back.
pub(crate) async fn revoke(revoke: &NetRevoke, session: &Session, paths: &Paths, out: Out) -> Result<()> {
    let kept = kept(paths, &session.name)?;
    let mut rows = Vec::new();
    let Some(asked) = &revoke.account else {
        for (account, _) in &kept {
            let coins = session.chain.account(*account).await.map_err(chain_fault)?.balance;
            let value = json!({ "schema": "hodei.net.invitation/1", "account": account.to_string(), "coins_wei": coins.to_string() });
            if out.json {
                out.result("", &value);
            }
            rows.push(vec![account.to_string(), money::show(coins)]);
        }
        if !out.json {
            out.line(&if rows.is_empty() {
                "no invitation made here is open".into()
            } else {
                table(&["INVITATION", "COINS"], &rows)
            });
        }
        return Ok(());
    };
    let account = money::account(asked)?;
    let Some((_, file)) = kept.iter().find(|(known, _)| *known == account) else {
        return Err(Fault::new(
            &fault::TICKET,
            "no invitation made here has that account",
            "`hodei net revoke` lists those that have",
        )
        .between("an account of an invitation", account));
    };
    out.say(format!("Take back what is in the invitation {account}; it costs the fee of one transfer."));
    if revoke.plan.dry_run {
        out.result("", &json!({ "schema": "hodei.net.revoke.plan/1", "account": account.to_string() }));
        return Ok(());
    }
    out.confirm("Take it back?", revoke.plan.yes)?;
    let text = Zeroizing::new(
        std::fs::read_to_string(file).map_err(|error| Fault::io(file, "reading the invitation's key", &error))?,
    );
    let key: SecretKey = text
        .trim()
        .parse()
        .map_err(|error: KeyError| Fault::new(&fault::WALLET, error, "that invitation is lost").at(file.display()))?;
    let head = session.chain.head().await.map_err(chain_fault)?;
    let swept = sweep(session, key.bytes(), head.base_fee, session.purse.owner()?).await?;
    // Only now: a key that is gone takes the coins with it.
    std::fs::remove_file(file).map_err(|error| Fault::io(file, "removing the invitation's key", &error))?;
    let text = match swept.is_zero() {
        true => "somebody has joined with it: no coins were left".to_owned(),
        false => format!("took back {}; the word is worth nothing now", money::show(swept)),
    };
    out.result(
        text,
        &json!({ "schema": "hodei.net.revoke/1", "account": account.to_string(), "coins_wei": swept.to_string() }),
    );
    Ok(())
}

/// Forgets the keys of a context's invitations: for a network that has ended, whose coins are worth nothing.
pub(crate) fn forget_invitations(paths: &Paths, context: &str) -> Result<()> {
    for (_, file) in kept(paths, context)? {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Fault::io(&file, "removing an invitation's key", &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Invitations made here whose keys are still kept: account and file.
fn kept(paths: &Paths, context: &str) -> Result<Vec<(Address, PathBuf)>> {
    let folder = kept_in(paths);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Fault::io(&folder, "listing invitations", &error)),
    };
    let mut found: Vec<(Address, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?.strip_suffix(".key")?.strip_prefix(context)?.strip_prefix('-')?;
            Some((name.parse().ok()?, path.clone()))
        })
        .collect();
    found.sort();
    Ok(found)
}

/// `hodei net join`: a context and a wallet of one's own, and the coins in it; with `--provide` also a node.
pub(crate) fn join(join: &NetJoin, ticket: Ticket, passphrase: Option<PathBuf>, paths: &Paths, out: Out) -> Result<()> {
    let contexts = Contexts::of(paths);
    let name = join.context_name.clone().unwrap_or_else(|| ticket.name.clone());
    check_name(&name)?;
    if contexts.names()?.contains(&name) {
        return Err(exists("a context", &name));
    }
    let folder = paths.data.join("wallets").join(&name);
    let offer = match join.provide.gib {
        Some(gib) => {
            let folder = match &join.provide.node_folder {
                Some(folder) => absolute(folder)?,
                None => paths.data.join("nodes").join(&name),
            };
            Some(Offer::check(&join.provide, gib, &name, folder, &ticket.network_key, &ticket.members)?)
        }
        None => None,
    };
    let mut context = Context {
        network_key: ticket.network_key.to_string(),
        wallet: folder.clone(),
        doors: Default::default(),
        node: None,
        genesis: None,
        demo: false,
        member: ticket.members.clone(),
    };
    let sealed = passphrase.as_deref().map(|file| purse::passphrase(Some(file))).transpose()?;
    let main = Purse::fresh()?;
    let owner = wallet::address(&main).expect("a fresh key is an account's");
    // Until the network answered, everything is in a folder that goes when this fails.
    let reached = paths.state.join(format!("join-{}", std::process::id()));
    let slot = Slot::take(&reached)?;
    let outcome = crate::start(slot.home.store(), None, |runtime| async move {
        let session = Session::reach(runtime, name.clone(), context.clone(), passphrase, slot).await?;
        let head = session.chain.head().await.map_err(chain_fault)?;
        let node = match offer {
            Some(offer) => Some(offer.make(inside(&session, &ticket.secret, head.base_fee).await?)?),
            None => None,
        };
        context.node = node.as_ref().map(|node| node.folder.clone());
        let purse = Purse::create(folder, &main, sealed.as_ref().map(|text| text.as_str()))?;
        contexts.save(&name, &context)?;
        let to = node.as_ref().map_or(owner, |node| node.account);
        let swept = sweep(&session, &ticket.secret, head.base_fee, to).await?;
        if swept.is_zero() {
            out.say("note: the invitation holds no coins any more");
        }
        if !purse.is_sealed() {
            out.say(
                "note: the main key is kept in clear, readable by you alone; a backup seals it: hodei key backup FILE",
            );
        }
        let (height, coins) = (head.height, money::show(swept));
        let text = match &node {
            None => format!("joined {name} at block {height}; wallet {owner} got {coins}"),
            Some(node) => format!(
                "joined {name} at block {height}; wallet {owner}\nthe node in {} has account {}, which got {coins}: {} of it as collateral, the rest for fees",
                node.folder.display(),
                node.account,
                money::show(node.collateral)
            ),
        };
        out.result(
            text,
            &json!({
                "schema": "hodei.net.join/1", "context": name, "height": head.height, "wallet": owner.to_string(),
                "coins_wei": swept.to_string(), "node": node.as_ref().map(|node| json!({
                    "folder": node.folder, "account": node.account.to_string(), "collateral_wei": node.collateral.to_string(),
                })),
            }),
        );
        out.next(if node.is_some() {
            format!("hodei -C {name} node run")
        } else {
            format!("hodei -C {name} data create BUCKET")
        });
        session.close().await;
        Ok(())
    });
    if let Err(error) = std::fs::remove_dir_all(&reached) {
        out.say(format!("{} stays behind: {error}", reached.display()));
    }
    outcome
}

/// What the transfer that empties an invitation may cost at most; what is left of it stays behind.
fn sweep_fee(base_fee: u64) -> U256 {
    U256::from(TRANSFER_GAS) * (U256::from(base_fee) * U256::from(2) + U256::from(TIP_MAX))
}

/// What an invitation is worth to whoever takes its coins.
async fn inside(session: &Session, secret: &[u8; 32], base_fee: u64) -> Result<U256> {
    let account = Account::new(session.chain.clone(), secret)
        .map_err(|error| Fault::new(&fault::TICKET, error, "ask for a new invitation"))?;
    let has = session.chain.account(account.address()).await.map_err(chain_fault)?.balance;
    Ok(has.saturating_sub(sweep_fee(base_fee)))
}

/// Moves an invitation's coins; what they came to.
async fn sweep(session: &Session, secret: &[u8; 32], base_fee: u64, to: Address) -> Result<U256> {
    let account = Account::new(session.chain.clone(), secret)
        .map_err(|error| Fault::new(&fault::TICKET, error, "ask for a new invitation"))?;
    let swept = inside(session, secret, base_fee).await?;
    if swept > U256::ZERO {
        let order = Order::transfer(to, swept);
        account.execute(&order).await.map_err(|error| {
            Fault::new(
                &fault::TX_REFUSED,
                error,
                "the coins are still in the invitation: join again under another --context-name",
            )
        })?;
    }
    Ok(swept)
}

fn validator_coins() -> U256 {
    U256::from(VALIDATOR_COINS) * U256::from(10u64).pow(U256::from(18))
}

fn exists(what: &str, name: &str) -> Fault {
    Fault::new(&fault::EXISTS, format!("there is {what} `{name}` already"), "choose another name")
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Fault::io(path, "finding the folder", &error))
}

pub(crate) fn deal_fault(error: DealError) -> Fault {
    match error {
        DealError::Occupied(ref path) => {
            let path = path.display().to_string();
            Fault::new(&fault::EXISTS, "the folder holds files already", "choose an empty or absent folder").at(path)
        }
        DealError::Home(error) => crate::serve::home_fault(error),
        DealError::Genesis(error) => Fault::new(&fault::GENESIS, error, "choose other parameters"),
        error => Fault::new(&fault::INTERNAL, error, "check the disk, then run the command again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invitations_of_an_ended_network_go_and_those_of_others_stay() {
        let folder = std::env::temp_dir().join(format!("hodei-invitations-{}", std::process::id()));
        let paths = Paths { config: folder.clone(), data: folder.clone(), state: folder.clone() };
        std::fs::create_dir_all(kept_in(&paths)).unwrap();
        let file =
            |context: &str, byte: u8| kept_in(&paths).join(format!("{context}-{}.key", Address::repeat_byte(byte)));
        let (mine, again, other) = (file("demo-1", 1), file("demo-1", 2), file("demo-12", 3));
        for path in [&mine, &again, &other] {
            std::fs::write(path, "key").unwrap();
        }
        forget_invitations(&paths, "demo-1").unwrap();
        assert!(!mine.exists() && !again.exists() && other.exists());
        forget_invitations(&paths, "demo-1").unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
