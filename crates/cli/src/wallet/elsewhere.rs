//! Find budgets of this account whose keys are not here, and take back what they hold.
//!
//! Who recovered from an older kit has no key of a budget that was set since. The ledger lists all of an owner's budgets,
//! and gives back to the owner alone.

use crate::{
    args::BudgetReturn,
    earnings::counted,
    fault::{self, Fault, Result},
    money,
    out::Out,
    session::{Session, chain_fault, sdk_fault},
};
use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use hodei_sdk::chain::Order;
use hodei_types::{
    abi::{BUDGETS, IBudgets},
    call::ask,
};
use serde_json::{Value, json};

/// Accounts that are looked at; each machine of an owner has one.
const LOOKED_AT_MAX: u64 = 256;
/// Of them at once.
const AT_ONCE: usize = 8;
/// Gas of taking back.
const RETURN_GAS: u64 = 500_000;

/// A budget that holds something.
pub(crate) struct Elsewhere {
    account: Address,
    /// Wei.
    left: U256,
}

/// What a look found.
pub(crate) struct Found {
    /// By account.
    budgets: Vec<Elsewhere>,
    /// Budgets beyond those that were looked at.
    unseen: u64,
}

/// Those that hold something, but for the one of this machine.
pub(crate) async fn find(session: &Session) -> Result<Found> {
    let (owner, own) = (session.purse.owner()?, own(session)?);
    let count = ask(&*session.chain, BUDGETS, &IBudgets::countCall { owner }).await.map_err(chain_fault)?;
    let unseen = count.saturating_sub(LOOKED_AT_MAX);
    // From the last on: it takes the place of one that ends meanwhile, and was looked at by then.
    let asked = (unseen..count).rev().map(|i| async move {
        let account = ask(&*session.chain, BUDGETS, &IBudgets::atCall { owner, i }).await.map_err(chain_fault)?;
        // Where one ended meanwhile there are fewer.
        if account.is_zero() { Ok(None) } else { held(session, own, account).await }
    });
    let found = stream::iter(asked.collect::<Vec<_>>()).buffered(AT_ONCE).try_collect::<Vec<_>>().await?;
    let mut budgets: Vec<Elsewhere> = found.into_iter().flatten().collect();
    budgets.sort_by_key(|one| one.account);
    budgets.dedup_by_key(|one| one.account);
    Ok(Found { budgets, unseen })
}

/// The budget of this machine.
fn own(session: &Session) -> Result<Option<Address>> {
    Ok(session.purse.budget_key()?.and_then(|key| hodei_sdk::wallet::address(&key)))
}

/// What a budget holds, if it does and is not the one of this machine.
async fn held(session: &Session, own: Option<Address>, account: Address) -> Result<Option<Elsewhere>> {
    let left = session.chain.account(account).await.map_err(chain_fault)?.balance;
    Ok((Some(account) != own && !left.is_zero()).then_some(Elsewhere { account, left }))
}

/// A line for each, with what takes it back.
pub(crate) fn lines(found: &Found) -> Vec<String> {
    let line = |one: &Elsewhere| {
        format!(
            "{} more in the budget {}, whose key is not here: hodei wallet budget return {}",
            money::exact(one.left),
            one.account,
            one.account
        )
    };
    let unseen = (found.unseen > 0).then(|| {
        let unseen = counted(found.unseen, "budget");
        format!("not looked at: {unseen} more; of one whose account you know: hodei wallet budget return ACCOUNT")
    });
    found.budgets.iter().map(line).chain(unseen).collect()
}

/// The same for programs: those found, and how many were not looked at.
pub(crate) fn rows(found: &Found) -> (Value, u64) {
    let row = |one: &Elsewhere| json!({ "account": one.account.to_string(), "left_wei": one.left.to_string() });
    (found.budgets.iter().map(row).collect(), found.unseen)
}

/// `hodei wallet budget return`.
pub(crate) async fn give_back(args: &BudgetReturn, session: &Session, out: Out) -> Result<()> {
    let account = money::account(&args.account)?;
    let asked = IBudgets::ownerOfCall { spender: account };
    let of = ask(&*session.chain, BUDGETS, &asked).await.map_err(chain_fault)?;
    let one = if of == session.purse.owner()? { held(session, own(session)?, account).await? } else { None };
    let Some(one) = one else {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_that_were_not_looked_at_are_told() {
        let budgets = || vec![Elsewhere { account: Address::repeat_byte(1), left: U256::from(5) }];
        let all = lines(&Found { budgets: budgets(), unseen: 0 });
        assert_eq!(all.len(), 1, "{all:?}");
        let cut = Found { budgets: budgets(), unseen: 7 };
        let told = lines(&cut);
        assert!(told.len() == 2 && told[0] == all[0] && told[1].contains("7 budgets more"), "{told:?}");
        assert_eq!((rows(&cut).0.as_array().unwrap().len(), rows(&cut).1), (1, 7));
    }
}
