//! Both arms side by side: what a block says of harm and of safety while stable serves as well.

use super::edge::{Bet, Held};
use super::{Block, Counts, During, Evidence, Worth, plug_in, seconds};

impl Evidence {
    /// Both arms side by side.
    pub(super) fn compare(&mut self, block: &Block, during: During) {
        let is_all = during.weight_rises && block.canary_weight >= 100;
        if let Some(known) = block.known_reference().filter(|_| is_all) {
            // The last part of the block has nobody beside it, and no later block of stable's tells more of it.
            self.begin_alone();
            self.suspect(block, known.max(block.stable.ratio().unwrap_or(0.0)));
            return;
        }
        let last = self.settle(Some(block)).unwrap_or(self.last());
        // Bets are made from what came before what is bet on.
        let before = self.canary.minus(self.waiting);
        let canary = self.known_to_both(block);
        let worth = self.worth();
        if during.weight_rises {
            self.bet_beyond_the_weight(block, canary, before, worth, last);
            if let Some(weight) = during.weight_before {
                let share = f64::from(weight) / 100.0;
                let (canary, stable) = (block.canary.total(), block.stable.total());
                self.exposure.hear(canary, stable, share, block.at_route);
            }
        } else {
            self.bet_on_harm(
                worth.of(canary),
                before,
                block.stable,
                worth,
                [last, block.stable],
            );
            self.bet(block, during.incident, worth);
        }
        let (canary, stable) = (block.canary, block.stable);
        // What both answer together is the same whoever has which part of it.
        if block.canary_weight < 100 {
            self.exposure
                .flow(canary.total() + stable.total(), seconds(block), false);
        }
        // Without a request of stable's at the same time, its rate so far stands for it; if it never had
        // any, all that is bad is the canary's.
        let rate = stable.ratio().or(self.stable.ratio()).unwrap_or(0.0);
        self.attributable += canary.bad() - canary.total() * rate;
    }

    /// Of a block whose weight rises: the canary's bad ones are taken to be among as many requests as the new weight
    /// would have given it all the time. If its rate is stable's at each moment, it has no more of them than that.
    fn bet_beyond_the_weight(
        &mut self,
        block: &Block,
        canary: Counts,
        before: Counts,
        worth: Worth,
        last: Counts,
    ) {
        let share = f64::from(block.canary_weight) / 100.0;
        if share < 1.0 {
            let stable = worth.of(block.stable).total();
            let canary = worth.of(canary).among(stable * share / (1.0 - share));
            // And what stable did is excused as if it had been among as few as it has by the new weight.
            let few = (block.canary.total() * (1.0 - share) / share.max(0.01)).min(block.stable.total());
            let seen = Counts::new(few.max(block.stable.bad()), block.stable.bad());
            self.bet_on_harm(
                canary,
                before,
                block.stable,
                worth,
                [last, seen.unwrap_or(block.stable)],
            );
        }
    }

    /// What a block's counts of one revision are worth as independent requests, by what came before it.
    pub(super) fn worth(&self) -> Worth {
        self.clustering.worth(self.stable)
    }

    /// Bets on these counts of the canary's, in independent requests, beside those of stable's. What is excused at an edge
    /// is by what stable is `seen` to have done in the last block and in this one.
    fn bet_on_harm(
        &mut self,
        canary: Counts,
        canary_before: Counts,
        stable: Counts,
        worth: Worth,
        seen: [Counts; 2],
    ) {
        let bet = Bet {
            canary,
            canary_before,
            stable: worth.of(stable),
            stable_before: self.expected(),
        };
        let is_edge = self.is_edge(stable, worth);
        // An incident that lies across the end of a block shows in two of stable's, half in each, and may show in one of the
        // canary's; and what waited for this block is of the time of the last one.
        let hold = is_edge || self.was_edge;
        self.was_edge = is_edge;
        if hold {
            self.held = Some(Held {
                bet,
                stable: seen,
                until: self.absorbed_to,
            });
        } else {
            self.place(bet, None);
        }
    }

    fn bet(&mut self, block: &Block, incident: bool, worth: Worth) {
        let (canary, stable) = (block.canary, block.stable);
        let (canary_worth, stable_worth) = (worth.of(canary), worth.of(stable));
        // What was suspected may be such an incident: the first block of the comparison shows it.
        let begins = self.again.is_some() && self.latest[1].total() <= 0.0;
        // What both do is no news of one of them. To leave a block out because stable had more bad ones than so many, a bound
        // from before, takes nothing from the guarantee: the more are stable's, the more a block speaks for the canary.
        if !incident && !begins && !self.is_unusual(stable) {
            let canary_too = if self.is_unusual(self.latest[1]) {
                Counts::default()
            } else {
                self.calm_canary
            };
            let theta = plug_in(self.expected().plus(canary_too));
            for safety in [Some(&mut self.safety), self.refuted.as_mut()]
                .into_iter()
                .flatten()
            {
                safety.absorb(canary_worth, stable_worth, theta);
            }
        }
        self.clustering
            .absorb(stable, &block.canary_pods, &block.stable_pods, incident);
        if block.weight_in_force {
            let share = f64::from(block.canary_weight) / 100.0;
            self.exposure.absorb(
                canary.total(),
                stable.total(),
                share,
                seconds(block),
                block.at_route,
            );
            if block.weight_settled {
                self.exposure
                    .weigh(canary.total(), stable.total(), share, block.at_route);
            }
        }
    }
}
