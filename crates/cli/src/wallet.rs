//! Hold money, send it, limit what is spent.

pub(crate) mod elsewhere;
pub(crate) mod statement;

use crate::{
    args::{BudgetSet, WalletHistory, WalletSend},
    fault::Result,
    money,
    out::{Out, table},
    session::{Session, chain_fault, sdk_fault, transfer_fault},
    stale,
};
use alloy_primitives::{Address, U256};
use hodei_sdk::{
    bucket::Buckets,
    moves::{Flow, Move, Why, moves},
    wallet::fee,
};
use hodei_types::ethereum::TRANSFER_GAS;
use serde_json::json;

/// `hodei wallet balance`.
pub(crate) async fn balance(session: &Session, out: Out) -> Result<()> {
    let owner = session.purse.owner()?;
    let account = session.chain.account(owner).await.map_err(chain_fault)?;
    let head = session.chain.head().await.map_err(chain_fault)?;
    let budget = session.budget().await?;
    let mut text = format!("{} in account {owner}", money::show(account.balance));
    if let Some(budget) = &budget {
        text.push_str(&format!("\n{} left to spend, in account {}", money::show(budget.left), budget.spender));
    }
    out.result(
        text,
        &json!({
            "schema": "hodei.wallet.balance/1", "account": owner.to_string(), "balance_wei": account.balance.to_string(),
            "nonce": account.nonce, "height": head.height,
            "budget": budget.as_ref().map(|budget| json!({ "account": budget.spender.to_string(), "left_wei": budget.left.to_string() })),
        }),
    );
    out.next("hodei wallet history");
    Ok(())
}

/// `hodei wallet send`.
pub(crate) async fn send(args: &WalletSend, session: &Session, out: Out) -> Result<()> {
    let to = money::account(&args.to)?;
    let amount = money::some(&args.amount)?;
    let head = session.chain.head().await.map_err(chain_fault)?;
    let fee = fee(TRANSFER_GAS, head.base_fee);
    let account = session.purse.owner()?;
    out.say(format!(
        "Send {} from the main account {account}, which no budget caps, to {to}; the fee is about {}.",
        money::show(amount),
        money::show(fee)
    ));
    if args.plan.dry_run {
        out.result(
            "",
            &json!({ "schema": "hodei.wallet.send.plan/1", "to": to.to_string(), "amount_wei": amount.to_string(), "fee_wei": fee.to_string() }),
        );
        return Ok(());
    }
    out.confirm("Send it?", args.plan.yes)?;
    let receipt = session.owner_wallet()?.send(to, amount).await.map_err(transfer_fault)?;
    out.result(
        format!("sent {} to {to} in block {}, transaction {}", money::show(amount), receipt.height, receipt.tx),
        &json!({
            "schema": "hodei.wallet.send/1", "to": to.to_string(), "amount_wei": amount.to_string(),
            "height": receipt.height, "transaction": receipt.tx.to_string(),
        }),
    );
    out.next("hodei wallet balance");
    Ok(())
}

/// `hodei wallet history`: each move of the main account's coins and the budget's, with the fees of their transactions.
pub(crate) async fn history(args: &WalletHistory, session: &Session, out: Out) -> Result<()> {
    let owner = session.purse.owner()?;
    let mut accounts = vec![owner];
    if let Ok(wallet) = session.wallet() {
        accounts.extend(Some(wallet.spender().address()).filter(|spender| *spender != owner));
    }
    let found = moves(&*session.chain, &accounts, args.last as usize, args.before).await.map_err(chain_fault)?;
    let sum = |flow| found.rows.iter().filter(|moved| moved.flow == flow).map(|moved| moved.amount).sum::<U256>();
    let (came, went, fees) = (sum(Flow::In), sum(Flow::Out), found.rows.iter().map(|moved| moved.fee).sum::<U256>());
    if out.json {
        for moved in &found.rows {
            let value = json!({
                "schema": "hodei.wallet.entry/1", "height": moved.height, "account": moved.account.to_string(),
                "what": moved.why.name(), "flow": flow_name(moved.flow), "amount_wei": moved.amount.to_string(),
                "fee_wei": moved.fee.to_string(), "text": moved.text, "transaction": moved.tx.to_string(),
            });
            out.result("", &value);
        }
    } else if !found.rows.is_empty() {
        out.line(&rows(&found.rows, owner, accounts.len() > 1));
        out.line("");
    }
    let what = match (found.is_more, args.before) {
        (true, _) => "the newest of them",
        (false, None) => "all of them",
        (false, Some(_)) => "the oldest of them",
    };
    let mut text = match found.rows.is_empty() {
        true => format!("no coin of {owner} moved in blocks {} to {}", found.from, found.to),
        false => format!(
            "{} in, {} out, {} of fees in blocks {} to {}: {what}",
            money::exact(came),
            money::exact(went),
            money::exact(fees),
            found.from,
            found.to
        ),
    };
    if let Some(reason) = &found.cut {
        text.push_str(&format!("\nwhat is older is not listed: {reason}"));
    }
    if let Some(next) = &found.next {
        text.push_str(&format!("\nwhat is older: hodei wallet history --last {} --before {next}", args.last));
    }
    out.result(
        text,
        &json!({
            "schema": "hodei.wallet.history/1", "account": owner.to_string(), "from": found.from, "to": found.to,
            "in_wei": came.to_string(), "out_wei": went.to_string(), "fees_wei": fees.to_string(),
            "is_more": found.is_more, "older": found.cut, "next": found.next.map(|next| next.to_string()),
        }),
    );
    Ok(())
}

/// The word programs are told.
fn flow_name(flow: Flow) -> &'static str {
    match flow {
        Flow::In => "in",
        Flow::Out => "out",
        Flow::Still => "none",
    }
}

/// Newest first; which account only where there are two.
fn rows(moves: &[Move], owner: Address, are_two: bool) -> String {
    let row = |moved: &Move| {
        let amount = match moved.flow {
            Flow::In => format!("+{}", money::exact(moved.amount)),
            Flow::Out => format!("-{}", money::exact(moved.amount)),
            Flow::Still if moved.why == Why::Fee => String::new(),
            Flow::Still => money::exact(moved.amount),
        };
        let fee = if moved.fee.is_zero() { String::new() } else { money::exact(moved.fee) };
        let mut row = vec![moved.height.to_string(), moved.why.name().to_owned(), amount, fee, moved.text.clone()];
        if are_two {
            row.insert(1, if moved.account == owner { "main" } else { "budget" }.to_owned());
        }
        row
    };
    let mut head = vec!["BLOCK", "WHAT", "AMOUNT", "FEE", "FOR"];
    if are_two {
        head.insert(1, "ACCOUNT");
    }
    table(&head, &moves.iter().map(row).collect::<Vec<_>>())
}

/// `hodei wallet budget show`.
pub(crate) async fn budget_show(session: &Session, out: Out) -> Result<()> {
    let wallet = session.wallet()?;
    let budget = wallet.budget().await.map_err(sdk_fault)?;
    let capped = budget.spender != budget.owner;
    let text = if capped {
        format!("{} left to spend, in account {}", money::show(budget.left), budget.spender)
    } else {
        format!(
            "no budget is set here: what is done here spends from the main account, which holds {}",
            money::show(budget.left)
        )
    };
    let others = elsewhere::find(session).await?;
    let (rows, unseen) = elsewhere::rows(&others);
    out.result(
        [vec![text], elsewhere::lines(&others)].concat().join("\n"),
        &json!({
            "schema": "hodei.wallet.budget/1", "capped": capped, "account": budget.spender.to_string(),
            "left_wei": budget.left.to_string(), "elsewhere": rows,
            "not_looked_at": unseen,
        }),
    );
    out.next("hodei wallet budget set AMOUNT");
    Ok(())
}

/// `hodei wallet budget set`.
pub(crate) async fn budget_set(args: &BudgetSet, session: &Session, out: Out) -> Result<()> {
    let cap = money::parse(&args.amount)?;
    out.say(format!(
        "From now on buckets and doors, also those that run, spend at most {}. What you send or invite with goes from the main account.",
        money::show(cap)
    ));
    elsewhere::lines(&elsewhere::find(session).await?).iter().for_each(|line| out.say(format!("note: {line}")));
    if args.plan.dry_run {
        out.result("", &json!({ "schema": "hodei.wallet.budget.plan/1", "cap_wei": cap.to_string() }));
        return Ok(());
    }
    out.confirm("Set it?", args.plan.yes)?;
    let main = session.owner_wallet()?;
    let (spender, is_fresh) = session.purse.spender()?;
    let wallet = main.with_spender(&spender).map_err(sdk_fault)?;
    let budget = match wallet.set_budget(cap).await {
        Ok(budget) => budget,
        Err(error) => {
            // A key that never held a coin must not be what everyday work pays from; one that may is kept.
            let account = session.chain.account(wallet.spender().address()).await;
            if is_fresh && account.is_ok_and(|account| account.balance.is_zero()) {
                session.purse.forget_spender()?;
            }
            return Err(sdk_fault(error));
        }
    };
    if let Err(error) = Buckets::new(wallet).hand_over().await {
        out.say(format!("buckets that were just written take up to a minute until the budget may write them: {error}"));
    }
    out.result(
        format!("{} left to spend, in account {}", money::show(budget.left), budget.spender),
        &json!({
            "schema": "hodei.wallet.budget/1", "capped": true, "account": budget.spender.to_string(),
            "left_wei": budget.left.to_string(),
        }),
    );
    if is_fresh {
        out.say(stale::hint("this budget"));
    }
    out.next("hodei wallet budget show");
    Ok(())
}
