//! Say what storing so much would cost now, and what taking it does to the price.

use super::{
    cell::{bar, coins, range, wide},
    largest, stands,
};
use crate::{
    args::MarketQuote,
    bucket::{spread, wish},
    fault::Result,
    money::{self, SYMBOL},
    out::{Out, bytes, table},
    session::{Session, chain_fault, sdk_fault},
};
use alloy_primitives::U256;
use hodei_sdk::{
    book::{Quote, Taken, Ware, month_windows, window_secs},
    market::offers,
};
use serde_json::json;

/// `hodei market quote`.
pub(crate) async fn show(args: &MarketQuote, session: &Session, out: Out) -> Result<()> {
    let chain = &*session.chain;
    let window_secs = window_secs(chain).await.map_err(chain_fault)?;
    let windows = args.windows.unwrap_or_else(|| month_windows(window_secs));
    let offers = offers(chain).await.map_err(chain_fault)?;
    let wish = wish(args.class, &args.spread, args.size, windows, &offers);
    let quote = Quote::of(&wish, &offers, window_secs).map_err(sdk_fault)?;
    let shape = quote.plan.shape;
    let step = |taken: &Taken| {
        json!({
            "from_wei": taken.step.from.to_string(), "to_wei": taken.step.to.to_string(), "offers": taken.step.offers,
            "amount": taken.step.amount.to_string(), "taken": taken.taken.to_string(),
        })
    };
    out.result(
        text(&quote, args.size),
        &json!({
            "schema": "hodei.market.quote/1", "size_bytes": args.size, "k": shape.k(), "n": shape.n(),
            "survives": shape.t(), "spread": spread(&shape), "regions": wish.regions, "deals": quote.plan.parts.len(),
            "windows": quote.windows, "window_secs": window_secs, "pay_wei": quote.pay.to_string(),
            "escrow_wei": quote.plan.escrow().to_string(), "escrow_windows": quote.plan.windows,
            "again_pay_wei": quote.again.map(|pay| pay.to_string()), "best_wei": quote.best.to_string(),
            "best_after_wei": quote.best_after.map(|best| best.to_string()),
            "unit": Ware::Storage.unit(), "steps": quote.taken.iter().map(step).collect::<Vec<_>>(),
            "largest": stands(&quote.stands),
        }),
    );
    out.next("hodei data create NAME --dry-run");
    Ok(())
}

fn text(quote: &Quote, size: u64) -> String {
    let (shape, parts) = (quote.plan.shape, quote.plan.parts.len());
    let dearer = match quote.again {
        None => "as much once more finds no place then".to_owned(),
        Some(again) => format!("as much once more costs {} {SYMBOL} then", wide(again)),
    };
    let best = match quote.best_after {
        None => "nobody has room then".to_owned(),
        Some(after) => format!("the best price goes from {} to {}", coins(quote.best), coins(after)),
    };
    let row = |taken: &Taken| {
        let told = |count: u128| bytes(count.try_into().unwrap_or(u64::MAX));
        vec![
            range(taken.step.from, taken.step.to),
            told(taken.step.amount),
            told(taken.taken),
            bar(taken.taken, taken.step.amount),
        ]
    };
    let rows: Vec<_> = quote.taken.iter().map(row).collect();
    format!(
        "{} of data for {} windows: {} {SYMBOL}, {} {SYMBOL} a GiB\n{} of {} shards suffice, {parts} deals; {} go in \
         escrow, what is not used comes back\n\n{}\n\n{}\ntaken so: {best}; {dearer}",
        bytes(size),
        quote.windows,
        wide(quote.pay),
        wide(per_gib(quote.pay, size)),
        shape.k(),
        shape.n(),
        money::show(quote.plan.escrow()),
        table(&["A GIB AND MONTH", "FREE", "BOUND", "OF IT"], &rows),
        largest(&quote.stands),
    )
}

fn per_gib(pay: U256, size: u64) -> U256 {
    pay.saturating_mul(U256::from(1u64 << 30)).div_ceil(U256::from(size.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gib_of_a_size_is_told_and_never_too_low() {
        assert_eq!(per_gib(U256::from(10), 4 << 30), U256::from(3));
        assert_eq!(per_gib(U256::from(10), 512 << 20), U256::from(20));
        assert_eq!(per_gib(U256::ZERO, 1), U256::ZERO);
    }
}
