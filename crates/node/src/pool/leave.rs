//! Retire devices that leave, and take their collateral back when their last deal has ended.

use super::{
    door::{Door, Failed},
    state::Phase,
};
use crate::provider::register::{self, RegisterError, drain};
use alloy_primitives::{B256, U256};

/// What leaving has come to.
pub(super) struct Leaving {
    pub(super) open: Vec<u64>,
    /// Wei that came back; `None` while deals are open.
    pub(super) collateral: Option<U256>,
}

impl Door {
    /// Goes on with a device's leaving. May be called again at any time: each step looks at the ledger first.
    pub(super) async fn withdraw(&self, node: B256) -> Result<Leaving, Failed> {
        let account = self.account();
        let Some(record) = register::record(account, node).await? else {
            self.change(|pool| pool.left(node)).await?;
            return Ok(Leaving { open: Vec::new(), collateral: Some(U256::ZERO) });
        };
        if record.operator != account.address() {
            return Err(Failed::Operator(node));
        }
        let draining = drain(account, node).await?;
        if !draining.open.is_empty() {
            return Ok(Leaving { open: draining.open, collateral: None });
        }
        match register::leave(account, node).await {
            Ok(()) => {}
            // A deal was opened between the look and the retirement, or one just closed is not gone yet.
            Err(RegisterError::Account(hodei_ledger::account::AccountError::Reverted(_))) => {
                return Ok(Leaving { open: Vec::new(), collateral: None });
            }
            Err(error) => return Err(error.into()),
        }
        tracing::info!(%node, collateral = %record.collateral, "left the pool");
        self.change(|pool| pool.left(node)).await?;
        Ok(Leaving { open: Vec::new(), collateral: Some(record.collateral) })
    }

    /// Goes on with all that leave; a device that is gone for good gives its collateral back too.
    pub(super) async fn withdraw_all(&self) {
        let leaving: Vec<B256> = self.look(|pool| {
            let devices = pool.devices.iter().filter(|(_, device)| device.phase == Phase::Leaving);
            devices.map(|(node, _)| *node).collect()
        });
        for node in leaving {
            if let Some(_turn) = self.turn(node)
                && let Err(error) = self.withdraw(node).await
            {
                tracing::warn!(%node, %error, "a device's leaving did not go on");
            }
        }
    }
}
