//! Find budgets of this account whose keys are not here, and take back what they hold.
//!
//! Who recovered from an older kit has no key of a budget that was set since. The ledger lists all of an owner's budgets,
//! and gives back to the owner alone.

use crate::{
    args::BudgetReturn,
    fault::{self, Fault, Result},
    money,
    out::Out,
    session::{Session, chain_fault, sdk_fault},
};
use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall as _;
use hodei_sdk::chain::Order;
use hodei_types::{
    abi::{BUDGETS, IBudgets},
    call::ask,
};
use serde_json::{Value, json};

/// Accounts that are looked at; each machine of an owner has one.
const LOOKED_AT_MAX: u64 = 256;
/// Gas of taking back.
const RETURN_GAS: u64 = 500_000;

/// A budget that holds something.
pub(crate) struct Elsewhere {
    account: Address,
    /// Wei.
    left: U256,
}

/// Those that hold something, but for the one of this machine.
pub(crate) async fn find(session: &Session) -> Result<Vec<Elsewhere>> {
    let owner = session.purse.owner()?;
    let own = session.purse.budget_key()?.and_then(|key| hodei_sdk::wallet::address(&key));
    let count = ask(&*session.chain, BUDGETS, &IBudgets::countCall { owner }).await.map_err(chain_fault)?;
    let mut found = Vec::new();
    for i in 0..count.min(LOOKED_AT_MAX) {
        let account = ask(&*session.chain, BUDGETS, &IBudgets::atCall { owner, i }).await.map_err(chain_fault)?;
        let left = session.chain.account(account).await.map_err(chain_fault)?.balance;
        if Some(account) != own && !left.is_zero() {
            found.push(Elsewhere { account, left });
        }
    }
    Ok(found)
}

/// A line for each, with what takes it back.
pub(crate) fn lines(found: &[Elsewhere]) -> Vec<String> {
    let line = |one: &Elsewhere| {
        format!(
            "{} more in the budget {}, whose key is not here: hodei wallet budget return {}",
            money::exact(one.left),
            one.account,
            one.account
        )
    };
    found.iter().map(line).collect()
}

/// The same for programs.
pub(crate) fn rows(found: &[Elsewhere]) -> Value {
    found.iter().map(|one| json!({ "account": one.account.to_string(), "left_wei": one.left.to_string() })).collect()
}

/// `hodei wallet budget return`.
pub(crate) async fn give_back(args: &BudgetReturn, session: &Session, out: Out) -> Result<()> {
    let account = money::account(&args.account)?;
    let found = find(session).await?;
    let Some(one) = found.iter().find(|one| one.account == account) else {
        let help = "`hodei wallet budget show` names those that do; this machine's own comes back by `hodei wallet \
                    budget set 0`";
        return Err(
            Fault::new(&fault::USAGE, "that is no budget of yours elsewhere that holds anything", help).at(account)
        );
    };
    let told =
        |schema: &str| json!({ "schema": schema, "account": account.to_string(), "amount_wei": one.left.to_string() });
    out.say(format!(
        "{} go back to the main account {}. A machine that spends from {account} puts nothing more until it is given a budget again.",
        money::exact(one.left),
        session.purse.owner()?
    ));
    if args.plan.dry_run {
        out.result("", &told("hodei.wallet.budget.return.plan/1"));
        return Ok(());
    }
    out.confirm("Take it back?", args.plan.yes)?;
    let wallet = session.owner_wallet()?;
    let main = wallet.main().ok_or_else(|| sdk_fault(hodei_sdk::Fault::NeedsOwner))?;
    // All that is there then: it may be spent from at this moment.
    let call = IBudgets::reclaimCall { spender: account, amount: U256::MAX };
    let order = Order::call(BUDGETS, call.abi_encode(), RETURN_GAS);
    main.execute(&order).await.map_err(|error| sdk_fault(error.into()))?;
    out.result(format!("took back {} from {account}", money::exact(one.left)), &told("hodei.wallet.budget.return/1"));
    out.next("hodei wallet balance");
    Ok(())
}
