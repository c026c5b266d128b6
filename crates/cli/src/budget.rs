//! Let doors that run spend from a budget as soon as one is set.

use crate::{out::Out, purse::Purse};
use hodei_sdk::{Local, wallet::Wallet};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long a door may go on with the main account.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Watches a wallet's folder until its budget pays for what `cloud` does.
pub(crate) fn follow(purse: Purse, cloud: Local, out: Out) -> JoinHandle<()> {
    tokio::spawn(async move {
        until_spent_from(&purse, cloud.wallet()).await;
        if let Err(error) = cloud.hand_over().await {
            out.say(format!("buckets stay with the main account for up to a minute: {error}"));
        }
    })
}

/// Waits until a wallet's budget pays for what the wallet does.
pub(crate) async fn until_spent_from(purse: &Purse, wallet: &Wallet) {
    loop {
        // A budget that is being set is not the owner's yet; who does not answer is asked again.
        if let Ok(Some(key)) = purse.budget_key()
            && matches!(wallet.spend_from(&key).await, Ok(true))
        {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
