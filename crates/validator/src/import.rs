//! Read an exported chain into the empty store of this machine's runtime.

use commonware_runtime::tokio::Context;
use hodei_ledger::{
    genesis::Genesis,
    import::{self, ImportError, Imported},
};
use std::{io::Read, pin::Pin, sync::Arc};

use crate::PREFIX;

/// Begins the name of every partition an import leaves for its caller to remove.
pub const SCRATCH: &str = "import";

/// An import under way.
pub type Importing = Pin<Box<dyn Future<Output = Result<Imported, ImportError>> + Send>>;

/// Checks and replays the whole file. Upon a failure, what lies under [`PREFIX`] is of no use.
pub fn import(context: Context, genesis: Arc<Genesis>, mut file: Box<dyn Read + Send>) -> Importing {
    Box::pin(async move { import::import(context, genesis, PREFIX, SCRATCH, &mut file).await })
}
