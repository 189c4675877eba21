//! `weir down`: asks a running gateway to drain and waits until it has ended.

use crate::args::DownArgs;
use crate::fail::Failure;
use std::time::Duration;
use weir_local::{Home, Instance};

pub(crate) async fn run(args: &DownArgs) -> Result<(), Failure> {
    let home = Home::from_env()?;
    let instance = Instance::find(&home, args.which.name.as_deref()).await?;
    instance
        .shut_down(&home, args.now, Duration::from_secs(args.timeout))
        .await?;
    anstream::println!("gateway {} has ended", instance.control.gateway);
    Ok(())
}
