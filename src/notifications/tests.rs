mod deliveries;
mod notices;
mod rendering;
mod stage;
mod told;
