// Documents are written where they are used.
#![allow(clippy::needless_pass_by_value)]

mod deliveries;
mod notices;
mod rendering;
mod stage;
mod told;
