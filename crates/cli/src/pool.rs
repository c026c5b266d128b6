//! Make a pool for an app's devices, and run it.
//!
//! A pool is a folder of its own: state, the door's key, and the token by which other commands reach the process that
//! runs it. What needs the ledger is signed by the main key, whose passphrase is asked for where it is sealed.

mod fleet;
mod folder;

use crate::{
    args::{Pay, Pool, PoolCreate, PoolRedeem, PoolRemove, PoolRun, PoolWord},
    fault::{self, Fault, Result},
    money,
    out::{Out, bytes},
    paths::Paths,
    serve::stopped,
    session::{Session, chain_fault},
    status::short,
};
use alloy_primitives::B256;
use folder::Folder;
use hodei_node::{
    config::GIB,
    pool::{Answer, Door, DoorError, Errand, Mode, Pool as State, Reason, Terms, ask},
};
use serde_json::json;

/// Prices are kept in 128 bits on the ledger, and bounded below that.
const PRICE_BITS_MAX: usize = 96;

/// `hodei pool …`, but for `run`.
pub(crate) async fn run(pool: &Pool, session: &Session, paths: &Paths, out: Out) -> Result<()> {
    match pool {
        Pool::Create(args) => create(args, session, paths, out).await,
        Pool::Run(args) => serve(args, session, paths, out).await,
        Pool::List => fleet::list(session, paths, out),
        Pool::Show(args) => fleet::show(&args.pool, session, paths, out).await,
        Pool::Word(args) => word(args, session, paths, out).await,
        Pool::Redeem(args) => redeem(args, session, paths, out).await,
        Pool::Remove(args) => remove(args, session, paths, out).await,
    }
}

async fn create(args: &PoolCreate, session: &Session, paths: &Paths, out: Out) -> Result<()> {
    let folder = Folder::named(paths, &session.name, &args.pool)?;
    let price = |text: &str| {
        let wei = money::parse(text)?;
        match wei.bit_len() <= PRICE_BITS_MAX {
            true => Ok(wei),
            false => Err(Fault::new(&fault::USAGE, "that price is beyond what the ledger takes", "name a lower one")),
        }
    };
    let terms = Terms {
        mode: if args.pays == Pay::Coins { Mode::Coins } else { Mode::Credit },
        devices_max: args.devices,
        joins_per_minute: args.joins_per_minute,
        space_bytes_max: args.space * GIB,
        collateral: money::parse(&args.collateral)?,
        // Without fees no device registers, nor proves.
        gas: money::some(&args.gas)?,
        gas_per_day_max: money::parse(&args.gas_per_day)?,
        price_keep: price(&args.price)?,
        price_read: price(&args.price_read)?,
    };
    if terms.gas_per_day_max < terms.gas {
        return Err(Fault::new(&fault::USAGE, "a device could not get its first gas", "raise --gas-per-day")
            .between(format!("at least {}", money::show(terms.gas)), money::show(terms.gas_per_day_max)));
    }
    let owner = session.purse.owner()?;
    let door = folder::place(args.address, &session.context.member)?;
    out.say(format!("pool:        {} of {owner}", args.pool));
    out.say(format!("devices:     at most {}, {} a minute", terms.devices_max, terms.joins_per_minute));
    out.say(format!("each offers: at most {}", bytes(terms.space_bytes_max)));
    out.say(format!("each costs:  {} as collateral, which comes back", money::show(terms.collateral)));
    out.say(format!(
        "             {} for fees, at most {} a day",
        money::show(terms.gas),
        money::show(terms.gas_per_day_max)
    ));
    out.say(format!("all at most: {} bound and burnt before anything is earned", money::show(terms.exposure())));
    out.say(format!("each asks:   {} a GiB and window", money::show(terms.price_keep)));
    out.say(match terms.mode {
        Mode::Coins => "pays:        coins, to an account the app names; from yours, which the ledger pays",
        Mode::Credit => "pays:        a credit in your app's terms; the coins stay with you",
    });
    out.say(format!("door:        {}, UDP", door.addresses[0]));
    out.say("price now:   0 hod; whoever has the word costs what is above, within these limits");
    let plan = json!({
        "schema": "hodei.pool.create.plan/1", "pool": args.pool, "operator": owner.to_string(), "price_wei": "0",
        "exposure_wei": terms.exposure().to_string(), "terms": fleet::terms(&terms), "door": door.addresses,
    });
    if args.plan.dry_run {
        folder.check_absent()?;
        out.result("", &plan);
        return Ok(());
    }
    out.confirm("Make it?", args.plan.yes)?;
    let head = session.chain.head().await.map_err(chain_fault)?;
    let secret = folder::random::<16>()?;
    let state = State::new(args.pool.clone(), owner, secret, terms, head.height);
    folder.make(&state, &door)?;
    let word = folder.word(&state, &door, session)?;
    out.result(
        &word,
        &json!({
            "schema": "hodei.pool.create/1", "pool": args.pool, "operator": owner.to_string(), "word": word,
            "folder": folder.path(), "door": door.addresses,
        }),
    );
    out.say("Put this word into your app. It holds no coins; whoever has it may ask to join.");
    out.next(format!("hodei -C {} pool run {}", session.name, args.pool));
    Ok(())
}

/// The door of a pool that does not run, for as long as its folder is held.
async fn open(folder: &Folder, session: &Session) -> Result<Door> {
    let wallet = session.owner_wallet()?;
    let account = wallet.main().cloned().ok_or_else(|| {
        let help = "open the wallet with its main key: --passphrase-file FILE";
        Fault::new(&fault::WALLET, "a pool's operator is the main account, whose key is not at hand", help)
    })?;
    let head = session.chain.head().await.map_err(chain_fault)?;
    Door::open(folder.state_file(), account, head.chain_id, folder.token()?).map_err(door_fault)
}

async fn serve(args: &PoolRun, session: &Session, paths: &Paths, out: Out) -> Result<()> {
    let folder = Folder::named(paths, &session.name, &args.pool)?;
    folder.check_present()?;
    let stop = stopped(args.process.until_stdin_closes)?;
    let _lock = folder.lock()?;
    let door = open(&folder, session).await?;
    let place = folder.door()?;
    let (link, listener) = Door::listen(*folder.keys()?.node.bytes(), place.listen).await.map_err(door_fault)?;
    let pool = door.pool();
    out.result(
        format!("pool {} answers at {}; {} devices take part", pool.name, place.addresses[0], pool.present()),
        &json!({
            "schema": "hodei.pool.ready/1", "pool": pool.name, "operator": pool.operator.to_string(),
            "node": link.key().to_string(), "door": place.addresses, "devices": pool.present(), "folder": folder.path(),
        }),
    );
    door.run(listener, stop).await;
    link.close().await;
    Ok(())
}

async fn word(args: &PoolWord, session: &Session, paths: &Paths, out: Out) -> Result<()> {
    let folder = Folder::named(paths, &session.name, &args.pool)?;
    let mut state = folder.state()?;
    if args.renew {
        out.say("Devices that have joined stay. An app with the old word lets nobody in any more.");
        if args.plan.dry_run {
            let plan = json!({ "schema": "hodei.pool.word.plan/1", "pool": args.pool, "price_wei": "0" });
            out.result("", &plan);
            return Ok(());
        }
        out.confirm("Change the word?", args.plan.yes)?;
        let secret = folder::random::<16>()?;
        done(errand(&folder, session, Errand::Secret { secret }).await?)?;
        state.secret = secret;
    }
    let word = folder.word(&state, &folder.door()?, session)?;
    out.result(&word, &json!({ "schema": "hodei.pool.word/1", "pool": args.pool, "word": word }));
    out.next(format!("hodei -C {} pool show {}", session.name, args.pool));
    Ok(())
}

async fn redeem(args: &PoolRedeem, session: &Session, paths: &Paths, out: Out) -> Result<()> {
    let folder = Folder::named(paths, &session.name, &args.pool)?;
    let state = folder.state()?;
    let (node, device) = fleet::device(&state, &args.device)?;
    let amount = money::some(&args.amount)?;
    out.say(format!(
        "device {} has a credit of {}, of which it claims {}",
        short(&hex::encode(node)),
        money::exact(device.credit()),
        money::exact(device.claimed())
    ));
    for claim in &device.claims {
        out.say(format!("  {} for {:?}", money::exact(claim.amount), claim.code));
    }
    out.say("This sends no coins: it says that your app gave the user something for it.");
    if args.plan.dry_run {
        let plan = json!({
            "schema": "hodei.pool.redeem.plan/1", "pool": args.pool, "device": hex::encode(node),
            "amount_wei": amount.to_string(), "credit_wei": device.credit().to_string(),
        });
        out.result("", &plan);
        return Ok(());
    }
    out.confirm(&format!("Count {} as given?", money::exact(amount)), args.plan.yes)?;
    done(errand(&folder, session, Errand::Redeem { node, amount }).await?)?;
    let state = folder.state()?;
    let (_, device) = fleet::device(&state, &hex::encode(node))?;
    out.result(
        format!("{} counted as given; its credit is {} now", money::exact(amount), money::exact(device.credit())),
        &json!({
            "schema": "hodei.pool.redeem/1", "pool": args.pool, "device": hex::encode(node),
            "amount_wei": amount.to_string(), "credit_wei": device.credit().to_string(),
            "redeemed_wei": device.redeemed.to_string(), "claimed_wei": device.claimed().to_string(),
        }),
    );
    out.next(format!("hodei -C {} pool show {}", session.name, args.pool));
    Ok(())
}

async fn remove(args: &PoolRemove, session: &Session, paths: &Paths, out: Out) -> Result<()> {
    let folder = Folder::named(paths, &session.name, &args.pool)?;
    let state = folder.state()?;
    let (node, device) = fleet::device(&state, &args.device)?;
    out.say(format!(
        "Retire device {}: it takes nothing new, and may not join again. Its credit of {} stays.",
        short(&hex::encode(node)),
        money::exact(device.credit())
    ));
    let key = hex::encode(node);
    if args.plan.dry_run {
        out.result("", &json!({ "schema": "hodei.pool.remove.plan/1", "pool": args.pool, "device": key }));
        return Ok(());
    }
    out.confirm("Remove it?", args.plan.yes)?;
    let Answer::Leaving { open, collateral } = done(errand(&folder, session, Errand::Remove { node }).await?)? else {
        return Err(Fault::new(&fault::INTERNAL, "the pool answered something else", "report it"));
    };
    let text = match collateral {
        Some(wei) => format!("removed; {} of collateral came back", money::exact(wei)),
        None => format!(
            "removed; {} deals are open still: the collateral comes back by itself while the pool runs",
            open.len()
        ),
    };
    out.result(
        text,
        &json!({
            "schema": "hodei.pool.remove/1", "pool": args.pool, "device": key, "open": open,
            "collateral_wei": collateral.map(|wei| wei.to_string()),
        }),
    );
    out.next(format!("hodei -C {} pool show {}", session.name, args.pool));
    Ok(())
}

/// Has an errand done by the process that runs the pool, or here where none does.
async fn errand(folder: &Folder, session: &Session, errand: Errand) -> Result<Answer> {
    match folder.lock() {
        Ok(_lock) => {
            let door = open(folder, session).await?;
            door.catch_up().await.map_err(chain_fault)?;
            Ok(door.errand(errand).await)
        }
        Err(fault) if fault.code.id == fault::LOCKED.id => {
            let request = hodei_node::pool::Request::Admin { token: folder.token()?, errand };
            let peer = folder.peer(&folder.door()?)?;
            ask(&session.link, &peer, &request).await.map_err(|error| {
                Fault::new(&fault::UNREACHABLE, error, "the pool runs and does not answer: try again, or restart it")
            })
        }
        Err(fault) => Err(fault),
    }
}

/// What was answered, or its refusal as a fault.
fn done(answer: Answer) -> Result<Answer> {
    match answer {
        Answer::Refused { reason, text } => {
            let (code, help) = match reason {
                Reason::Credit => (&fault::POOL_REFUSED, "`hodei pool show` says what each device has"),
                Reason::Ledger => (&fault::TX_REFUSED, "run the same command again"),
                _ => (&fault::POOL_REFUSED, "`hodei pool show` says how each device stands"),
            };
            Err(Fault::new(code, text, help))
        }
        Answer::Busy { .. } => {
            let help = "run the same command again in a moment";
            Err(Fault::new(&fault::CONTENDED, "something else happens for this device at this moment", help))
        }
        answer => Ok(answer),
    }
}

fn door_fault(error: DoorError) -> Fault {
    match error {
        DoorError::Operator { .. } => Fault::new(&fault::POOL_REFUSED, error, "use the context it was made in"),
        DoorError::Link(error) => {
            Fault::new(&fault::NODE, error, "another process may have that port: stop it, or make another pool")
        }
        DoorError::Home(error) => crate::serve::home_fault(error),
        error => Fault::new(&fault::FOLDER, error, "put back a copy of that file"),
    }
}

/// A key as commands print it.
fn hexed(node: &B256) -> String {
    hex::encode(node)
}
