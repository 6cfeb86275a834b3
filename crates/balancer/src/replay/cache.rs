//! A simulated node's memory: the models it holds, and the prompts it has computed.

/// The least recently used makes room.
#[derive(Debug)]
pub(super) struct Residents {
    room: usize,
    /// Models, the one used last at the end.
    held: Vec<usize>,
}

impl Residents {
    pub(super) fn new(room: usize, held: Vec<usize>) -> Self {
        let skipped = held.len().saturating_sub(room);
        let held = held.into_iter().skip(skipped).collect();
        Self { room, held }
    }

    pub(super) fn holds(&self, model: usize) -> bool {
        self.held.contains(&model)
    }

    /// Marks `model` as used, which it holds or finds room for; `busy` models stay. False if there is no room.
    pub(super) fn make_room(&mut self, model: usize, busy: impl Fn(usize) -> bool) -> bool {
        if let Some(place) = self.held.iter().position(|held| *held == model) {
            self.held.remove(place);
        } else if self.held.len() >= self.room {
            let Some(place) = self.held.iter().position(|held| !busy(*held)) else {
                return false;
            };
            self.held.remove(place);
        }
        self.held.push(model);
        true
    }

    pub(super) fn clear(&mut self) {
        self.held.clear();
    }
}

/// The prompts of a node's cache, the least recently used making room.
#[derive(Debug)]
pub(super) struct Prompts {
    room: usize,
    /// The one used last at the end.
    kept: Vec<(usize, Vec<(u64, u32)>)>,
}

impl Prompts {
    pub(super) fn new(room: usize) -> Self {
        Self {
            room,
            kept: Vec::new(),
        }
    }

    /// Computes a prompt: how many of its bytes were there. It goes on from the prompt that has most in common with it,
    /// and takes its place if that was the begin of it.
    pub(super) fn compute(&mut self, model: usize, prefix: &[(u64, u32)]) -> u32 {
        let common = |kept: &(usize, Vec<(u64, u32)>)| {
            let same = kept.1.iter().zip(prefix).take_while(|(a, b)| a.0 == b.0);
            if kept.0 == model { same.count() } else { 0 }
        };
        let best = (0..self.kept.len()).max_by_key(|&index| self.kept.get(index).map_or(0, common));
        let (mut links, mut replaced) = (0, None);
        if let Some((index, kept)) = best.and_then(|index| Some((index, self.kept.get(index)?))) {
            links = common(kept);
            replaced = (links > 0 && links == kept.1.len()).then_some(index);
        }
        if let Some(index) = replaced {
            self.kept.remove(index);
        }
        self.kept.push((model, prefix.to_vec()));
        if self.kept.len() > self.room {
            self.kept.remove(0);
        }
        match links {
            0 => 0,
            links => prefix.get(links - 1).map_or(0, |(_, bytes)| *bytes),
        }
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }
}
