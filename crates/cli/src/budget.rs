//! Let doors that run spend from a budget as soon as one is set.

use crate::{out::Out, purse::Purse};
use hodei_sdk::Local;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long a door may go on with the main account.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Watches a wallet's folder until its budget pays for what `cloud` does.
pub(crate) fn follow(purse: Purse, cloud: Local, out: Out) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            // A budget that is being set is not the owner's yet; who does not answer is asked again.
            if let Ok(Some(key)) = purse.budget_key()
                && matches!(cloud.wallet().spend_from(&key).await, Ok(true))
            {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if let Err(error) = cloud.hand_over().await {
            out.say(format!("buckets stay with the main account for up to a minute: {error}"));
        }
    })
}
