//! Hold money, send it, limit what is spent.

use crate::{
    args::{BudgetSet, WalletHistory, WalletSend},
    earnings::counted,
    fault::Result,
    money,
    out::{Out, table},
    session::{Session, chain_fault, sdk_fault},
};
use alloy_primitives::{B256, U256};
use alloy_sol_types::SolEvent;
use hodei_sdk::wallet::fee;
use hodei_types::{
    abi::{BUDGETS, DEALS, IBudgets, IDeals},
    chain::{LOG_BLOCKS_MAX, LogFilter},
    ethereum::TRANSFER_GAS,
};
use serde_json::json;

/// `hodei wallet balance`.
pub(crate) async fn balance(session: &Session, out: Out) -> Result<()> {
    let owner = session.purse.owner()?;
    let account = session.chain.account(owner).await.map_err(chain_fault)?;
    let head = session.chain.head().await.map_err(chain_fault)?;
    let budget = match session.wallet() {
        Ok(wallet) if wallet.spender().address() != owner => Some(wallet.budget().await.map_err(sdk_fault)?),
        _ => None,
    };
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
    let amount = money::parse(&args.amount)?;
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
    let receipt = session.owner_wallet()?.send(to, amount).await.map_err(sdk_fault)?;
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

/// `hodei wallet history`: what the modules moved for this account; plain transfers leave no log.
pub(crate) async fn history(args: &WalletHistory, session: &Session, out: Out) -> Result<()> {
    let owner = session.purse.owner()?;
    let head = session.chain.head().await.map_err(chain_fault)?;
    let from = head.height.saturating_sub(LOG_BLOCKS_MAX - 1);
    let me = B256::left_padding_from(owner.as_slice());
    let ask = |address, topic0, topic1| LogFilter {
        from,
        to: head.height,
        address: Some(address),
        topic0: Some(topic0),
        topic1,
    };
    let mut entries = Vec::new();

    for log in session.chain.logs(ask(DEALS, IDeals::Opened::SIGNATURE_HASH, None)).await.map_err(chain_fault)? {
        if let Ok(event) = IDeals::Opened::decode_raw_log(log.topics.iter().copied(), &log.data)
            && event.owner == owner
        {
            let text = format!("deal {} opened, put in escrow", event.deal);
            entries.push((log.height, log.index, "escrow", U256::from(event.escrow), text, log.tx));
        }
    }
    let mine: std::collections::BTreeSet<u64> = session
        .chain
        .logs(ask(DEALS, IDeals::Opened::SIGNATURE_HASH, None))
        .await
        .map_err(chain_fault)?
        .iter()
        .filter_map(|log| IDeals::Opened::decode_raw_log(log.topics.iter().copied(), &log.data).ok())
        .filter(|event| event.owner == owner)
        .map(|event| event.deal)
        .collect();
    for log in session.chain.logs(ask(DEALS, IDeals::Paid::SIGNATURE_HASH, None)).await.map_err(chain_fault)? {
        if let Ok(event) = IDeals::Paid::decode_raw_log(log.topics.iter().copied(), &log.data)
            && mine.contains(&event.deal)
        {
            let text = format!(
                "deal {} paid operator {} for {}",
                event.deal,
                event.operator,
                counted(event.windows, "window")
            );
            entries.push((log.height, log.index, "paid from escrow", event.amount, text, log.tx));
        }
    }
    for log in
        session.chain.logs(ask(BUDGETS, IBudgets::Funded::SIGNATURE_HASH, Some(me))).await.map_err(chain_fault)?
    {
        if let Ok(event) = IBudgets::Funded::decode_raw_log(log.topics.iter().copied(), &log.data) {
            entries.push((
                log.height,
                log.index,
                "budget",
                event.amount,
                format!("to spend by {}", event.spender),
                log.tx,
            ));
        }
    }
    entries.sort_by_key(|(height, index, ..)| std::cmp::Reverse((*height, *index)));
    entries.truncate(args.last as usize);
    if out.json {
        for (height, _, what, amount, text, tx) in &entries {
            let value = json!({
                "schema": "hodei.wallet.entry/1", "height": height, "what": what, "amount_wei": amount.to_string(),
                "text": text, "transaction": tx.to_string(),
            });
            out.result("", &value);
        }
    } else if entries.is_empty() {
        out.line("no deal or budget moved coins of this account yet; what was sent or received is not listed");
    } else {
        let rows: Vec<_> = entries
            .iter()
            .map(|(height, _, what, amount, text, _)| {
                vec![height.to_string(), (*what).into(), money::show(*amount), text.clone()]
            })
            .collect();
        out.line(&table(&["BLOCK", "WHAT", "AMOUNT", "FOR"], &rows));
    }
    Ok(())
}

/// `hodei wallet budget show`.
pub(crate) async fn budget_show(session: &Session, out: Out) -> Result<()> {
    let wallet = session.wallet()?;
    let budget = wallet.budget().await.map_err(sdk_fault)?;
    let capped = budget.spender != budget.owner;
    let text = if capped {
        format!("{} left to spend, in account {}", money::show(budget.left), budget.spender)
    } else {
        format!("no budget is set: everything spends from the main account, which holds {}", money::show(budget.left))
    };
    out.result(
        text,
        &json!({
            "schema": "hodei.wallet.budget/1", "capped": capped, "account": budget.spender.to_string(),
            "left_wei": budget.left.to_string(),
        }),
    );
    out.next("hodei wallet budget set AMOUNT");
    Ok(())
}

/// `hodei wallet budget set`.
pub(crate) async fn budget_set(args: &BudgetSet, session: &Session, out: Out) -> Result<()> {
    let cap = money::parse(&args.amount)?;
    out.say(format!(
        "From now on buckets and doors spend at most {}. What you send or invite with goes from the main account.",
        money::show(cap)
    ));
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
    out.result(
        format!("{} left to spend, in account {}", money::show(budget.left), budget.spender),
        &json!({
            "schema": "hodei.wallet.budget/1", "capped": true, "account": budget.spender.to_string(),
            "left_wei": budget.left.to_string(),
        }),
    );
    out.next("hodei wallet budget show");
    Ok(())
}
