//! Show who was paid for what between two days, and what is to be invoiced where a network settles so.

use crate::{
    args::WalletStatement,
    fault::{self, Fault, Result},
    money,
    out::{Out, table},
    session::{Session, chain_fault},
    time::{Day, now_ms},
};
use alloy_primitives::{Address, U256};
use hodei_sdk::{
    payments::{self, Line, Service, Statement},
    wallet::format_coins,
};
use hodei_types::settlement::Settlement;
use serde_json::json;

/// `hodei wallet statement`.
pub(crate) async fn show(args: &WalletStatement, session: &Session, out: Out) -> Result<()> {
    let chain = &*session.chain;
    let today = Day::of(now_ms());
    let (first, last) = (args.from.unwrap_or(today.first_of_month()), args.to.unwrap_or(today));
    if first > last {
        return Err(Fault::new(&fault::USAGE, "these days are the wrong way round", "name the earlier as --from")
            .between(format!("a day until {last}"), first));
    }
    let accounts = match &args.accounts[..] {
        [] => own(session)?,
        named => named.iter().map(|text| money::account(text)).collect::<Result<_>>()?,
    };
    let settlement = payments::settlement(chain).await.map_err(chain_fault)?;
    let from = payments::block_at(chain, first.secs()).await.map_err(chain_fault)?;
    let next = payments::block_at(chain, last.next().secs()).await.map_err(chain_fault)?;
    let statement = payments::statement(chain, &accounts, from, next.saturating_sub(1)).await.map_err(chain_fault)?;
    if args.csv {
        out.line(csv(&statement, &settlement, &accounts, first, last).trim_end());
        return Ok(());
    }
    if out.json {
        for ((party, service), line) in &statement.lines {
            let value = json!({
                "schema": "hodei.wallet.statement.line/1", "party": party.to_string(), "service": service.name(),
                "paid_wei": line.paid.to_string(), "earned_wei": line.earned.to_string(), "receipts": line.receipts,
            });
            out.result("", &value);
        }
    } else if !statement.lines.is_empty() {
        let rows: Vec<_> = statement.lines.iter().map(|((party, service), line)| row(*party, *service, line)).collect();
        out.line(&table(&["WITH", "FOR", "PAID", "EARNED", "RECEIPTS"], &rows));
        out.line("");
    }
    out.result(
        words(&statement, &settlement, first, last),
        &json!({
            "schema": "hodei.wallet.statement/1", "from_day": first.to_string(), "to_day": last.to_string(),
            "accounts": accounts.iter().map(Address::to_string).collect::<Vec<_>>(),
            "from": statement.from, "to": statement.to, "paid_wei": statement.paid().to_string(),
            "earned_wei": statement.earned().to_string(), "burned_wei": statement.burned.to_string(),
            "fees_wei": statement.fees.to_string(), "settlement": settlement.name(),
            "currency": settlement.currency(), "older": statement.cut,
        }),
    );
    Ok(())
}

/// The main account and the budget's.
fn own(session: &Session) -> Result<Vec<Address>> {
    let owner = session.purse.owner()?;
    let mut accounts = vec![owner];
    if let Ok(wallet) = session.wallet() {
        accounts.extend(Some(wallet.spender().address()).filter(|spender| *spender != owner));
    }
    Ok(accounts)
}

fn row(party: Address, service: Service, line: &Line) -> Vec<String> {
    let coins = |wei: U256| if wei.is_zero() { String::new() } else { money::exact(wei) };
    let party = if party.is_zero() { "who is no more here".to_owned() } else { party.to_string() };
    vec![party, service.name().to_owned(), coins(line.paid), coins(line.earned), line.receipts.to_string()]
}

fn words(statement: &Statement, settlement: &Settlement, first: Day, last: Day) -> String {
    let (paid, earned) = (statement.paid(), statement.earned());
    let mut text = format!(
        "{} paid and {} earned from {first} to {last}, blocks {} to {}; {} burned, {} of fees",
        money::exact(paid),
        money::exact(earned),
        statement.from,
        statement.to,
        money::exact(statement.burned),
        money::exact(statement.fees),
    );
    match settlement {
        Settlement::Coins => {}
        Settlement::Invoice(currency) => text.push_str(&format!(
            "\na coin is one {}: invoice {} of it, and be invoiced {}; who was paid gives the coins back by `hodei wallet send`",
            currency.as_str(),
            format_coins(earned),
            format_coins(paid),
        )),
        Settlement::Barter => text.push_str(&match earned.cmp(&paid) {
            std::cmp::Ordering::Less => format!("\nmore was taken than given: {}", money::exact(paid - earned)),
            _ => format!("\nas much was given as taken, and {} more", money::exact(earned - paid)),
        }),
    }
    if let Some(reason) = &statement.cut {
        text.push_str(&format!("\nwhat is older is not in it: {reason}"));
    }
    text
}

/// One line a party and service, under the names of columns that FOCUS gives them.
fn csv(statement: &Statement, settlement: &Settlement, accounts: &[Address], first: Day, last: Day) -> String {
    let unit = settlement.currency().unwrap_or(money::SYMBOL);
    let account = accounts.first().copied().unwrap_or_default();
    let head = "BillingAccountId,BillingPeriodStart,BillingPeriodEnd,BillingCurrency,ProviderName,ServiceName,ServiceCategory,ChargeCategory,BilledCost";
    let mut lines = vec![head.to_owned()];
    let mut line = |party: &str, service: &str, category: &str, charge: &str, coins: String| {
        let (from, to) = (first, last.next());
        lines.push(format!(
            "{account},{from}T00:00:00Z,{to}T00:00:00Z,{unit},{party},{service},{category},{charge},{coins}"
        ));
    };
    for ((party, service), sums) in &statement.lines {
        let category = match service {
            Service::Compute | Service::Watching | Service::Breach => "Compute",
            Service::Storage | Service::Reads | Service::Care => "Storage",
            Service::Bandwidth => "Networking",
        };
        let (party, name) = (party.to_string(), service.name());
        if !sums.paid.is_zero() {
            line(&party, name, category, "Usage", format_coins(sums.paid));
        }
        if !sums.earned.is_zero() {
            line(&party, name, category, "Credit", format!("-{}", format_coins(sums.earned)));
        }
    }
    for (name, wei) in [("burned", statement.burned), ("fees", statement.fees)] {
        if !wei.is_zero() {
            line("the ledger", name, "Other", "Tax", format_coins(wei));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_a_spreadsheet_add_up_to_the_statement() {
        let mut statement = Statement { burned: U256::from(10).pow(U256::from(16)), ..Statement::default() };
        let coin = U256::from(10).pow(U256::from(18));
        let party = Address::repeat_byte(7);
        let line = Line { paid: coin, earned: coin / U256::from(4), receipts: 3 };
        statement.lines.insert((party, Service::Compute), line);
        let euro = Settlement::Invoice("EUR".parse().unwrap());
        let (first, last) = ("2026-11-01".parse().unwrap(), "2026-11-30".parse().unwrap());
        let text = csv(&statement, &euro, &[Address::repeat_byte(1)], first, last);
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert!(rows.iter().all(|row| row.len() == 9), "{text}");
        let costs: Vec<_> = rows[1..].iter().map(|row| (row[5], row[7], row[8])).collect();
        assert_eq!(costs, [("compute", "Usage", "1"), ("compute", "Credit", "-0.25"), ("burned", "Tax", "0.01")]);
        assert_eq!((rows[1][1], rows[1][2], rows[1][3]), ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", "EUR"));
        let said = words(&statement, &euro, first, last);
        assert!(said.contains("a coin is one EUR: invoice 0.25 of it, and be invoiced 1"), "{said}");
        let said = words(&statement, &Settlement::Barter, first, last);
        assert!(said.contains("more was taken than given: 0.75 hod"), "{said}");
    }
}
