//! Ask a pool's door one thing, and settle with it.

use super::wire::{Answer, MESSAGE_BYTES_MAX, Request, WireError};
use alloy_primitives::{Address, U256};
use hodei_ledger::{
    account::{Account, AccountError, Order, max_fee_per_gas},
    wire::{receive, send},
};
use hodei_link::{Config, Link, LinkError};
use hodei_types::{
    chain::ChainError,
    ethereum::TRANSFER_GAS,
    transport::{POOL, Peer, Transport as _, TransportError},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// Registering a device takes a block or two; a ledger without blocks is told before.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// How often what is left is counted anew.
const GIVE_BACK_TRIES: u32 = 3;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("the pool could not be reached: {0}")]
    Unreachable(#[from] TransportError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the pool's answer did not arrive: {0}")]
    Broken(#[from] hodei_ledger::wire::WireError),
    #[error("the pool's answer was not understood: {0}")]
    Form(#[from] WireError),
    #[error("the pool did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Late,
}

/// Asks, and waits for the answer; the same request may be asked again after any error.
pub async fn ask(link: &Link, door: &Peer, request: &Request) -> Result<Answer, AskError> {
    let work = async {
        let (mut sink, mut stream) = link.open(door, POOL).await?;
        send(&mut sink, request.encode()).await?;
        let answer = receive(&mut stream, MESSAGE_BYTES_MAX).await?;
        Ok(Answer::decode(&answer)?)
    };
    tokio::time::timeout(ANSWER_TIMEOUT, work).await.map_err(|_| AskError::Late)?
}

/// The same from a program that has no link: under the node key of `secret`, listening nowhere.
pub async fn ask_once(secret: [u8; 32], door: &Peer, request: &Request) -> Result<Answer, AskError> {
    let is_near = door.addresses.iter().all(|address| address.ip().is_loopback());
    let ip = if is_near { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    let config = Config { secret, bind: SocketAddr::new(ip.into(), 0), protocols: Vec::new(), relays: Vec::new() };
    let (link, _listener) = Link::bind(config).await?;
    let answer = ask(&link, door, request).await;
    link.close().await;
    answer
}

/// Sends what an account holds, but for the fee, to another: a device that has left gives back what it did not burn.
pub async fn give_back(account: &Account, to: Address) -> Result<U256, AccountError> {
    let mut tries = 0;
    loop {
        let head = account.chain().head().await?;
        let balance = account.chain().account(account.address()).await?.balance;
        let fee = U256::from(TRANSFER_GAS) * U256::from(max_fee_per_gas(head.base_fee));
        let amount = balance.saturating_sub(fee);
        if amount.is_zero() {
            return Ok(amount);
        }
        tries += 1;
        match account.execute(&Order::transfer(to, amount)).await {
            // What the node sent at the same time took its fee from this.
            Err(AccountError::Pending { error: ChainError::Refused(_), .. }) if tries < GIVE_BACK_TRIES => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(amount),
        }
    }
}
