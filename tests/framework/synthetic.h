#pragma once
// A small world to train in: seeded text that looks like Chinese, a tokenizer trained on it, a dataset, a config.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/tokenizer/train.h"
#include "framework/train/config.h"
#include "tests/data/shard_fixture.h"

namespace dujiang::test {

/// Sentences of words, each of which has two likely successors: a model can learn something of it.
std::string synthetic_document(std::uint64_t number, std::uint64_t seed = 3);

/// FOLDER/tokenizer, learnt from `texts`, and FOLDER/data with the splits train and valid, which gets the last of every
/// `valid_every` texts.
void write_data(const std::filesystem::path& folder, const data::TrainTokenizerConfig& config,
                const std::vector<std::string>& texts, std::size_t valid_every);

/// The same from synthetic documents.
void write_synthetic_data(const std::filesystem::path& folder, int documents = 80);

models::ModelConfig tiny_model(std::int64_t vocab_size = 0, bool tied = true);

train::Config tiny_config(const std::filesystem::path& folder, const std::string& run);

/// The lines of metrics.jsonl that have `field`, by step.
std::map<std::int64_t, double> metric(const std::filesystem::path& run, const std::string& field);

std::string bytes_of(const std::filesystem::path& file);

/// Whether two checkpoints hold the same bytes: weights, optimizer, trainer state.
bool same_checkpoint(const std::filesystem::path& a, const std::filesystem::path& b);

}  // namespace dujiang::test
