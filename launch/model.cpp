// The subcommands that run a model: eval, logits, generate.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "data/corpus/read/texts.h"
#include "data/text/utf8.h"
#include "framework/train/evaluate.h"
#include "framework/train/generate.h"
#include "framework/train/load_model.h"
#include "framework/train/safetensors.h"
#include "launch/command.h"
#include "launch/parse.h"

namespace dujiang::launch {
namespace {

struct ModelOptions {
  std::string model;
  std::string precision = "fp32";
  std::string text, tokens, out;
  std::vector<std::string> prompts;
  std::string prompts_file;
  std::size_t batch = 8;
  train::TextScoreOptions score;
  train::GenerateOptions generate;
  Report report;

  void add_to(CLI::App& command) {
    command.add_option("MODEL", model, "A checkpoint, or a directory that Hugging Face transformers wrote")->required();
    command.add_option("--precision", precision, "Of weights and activations: fp32, bf16 or fp16")
        ->check(CLI::IsMember({"fp32", "bf16", "fp16"}))
        ->capture_default_str();
    report.add_option(command);
  }
  std::unique_ptr<models::Qwen3> load() const {
    return train::load_model(model, precision == "fp32" ? Dtype::f32 : precision == "bf16" ? Dtype::bf16 : Dtype::f16);
  }
};

// A .jsonl file's documents, else the whole file as one, byte for byte.
std::vector<std::string> documents_of(const std::string& path) {
  std::vector<std::string> documents;
  const std::string extension = std::filesystem::path(path).extension();
  if (data::format_of(path, data::Format::automatic) == data::Format::jsonl || extension == ".gz" ||
      extension == ".zst" || extension == ".xz") {
    data::for_each_text({path}, {}, {.normalise = data::as_it_is},
                        [&](std::string&& text) { documents.push_back(std::move(text)); });
  } else {
    documents.push_back(read_text(path));
    const auto valid = data::utf8_valid_prefix(documents.back());
    if (valid != documents.back().size()) fail_user("{}: not UTF-8 at byte {}", path, valid);
  }
  if (documents.empty() || std::all_of(documents.begin(), documents.end(), [](auto& d) { return d.empty(); })) {
    fail_user("{}: no text to score", path);
  }
  return documents;
}

int eval(const ModelOptions& options) {
  const auto documents = documents_of(options.text);
  const auto tokenizer = open_tokenizer(options.model);
  const auto model = options.load();
  Progress progress;
  const auto score = train::score_texts(*model, *tokenizer, documents, options.score, [&](std::size_t done) {
    progress.update([&] { return fmt::format("eval: {} of {} documents", done, documents.size()); });
  });
  options.report.print(fmt::format("{}: {} tokens, {} bytes, {} characters in {:.1f} s\n"
                                   "{:8.4f} nats per token\n{:8.4f} bits per byte\n{:8.4f} bits per character\n",
                                   options.text, score.tokens, score.bytes, score.characters, progress.seconds(),
                                   score.nll_per_token(), score.bits_per_byte(), score.bits_per_char()),
                       {{"nll_per_token", score.nll_per_token()},
                        {"bits_per_byte", score.bits_per_byte()},
                        {"bits_per_char", score.bits_per_char()},
                        {"tokens", score.tokens},
                        {"bytes", score.bytes},
                        {"chars", score.characters},
                        {"documents", documents.size()},
                        {"seconds", progress.seconds()}});
  return 0;
}

int logits(const ModelOptions& options) {
  const auto ids = parse_ids(options.tokens, "--tokens");
  if (ids.empty()) fail_user("--tokens: no token given, expected for example \"1,2,3\"");
  const auto model = options.load();
  const auto& config = model->config();
  const auto n = static_cast<std::int64_t>(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= config.vocab_size) {
      fail_user("--tokens: number {} is {}, outside the model's vocabulary of {}", i, ids[i], config.vocab_size);
    }
  }
  if (n > config.max_position_embeddings) {
    fail_user("--tokens: {} tokens, but the model has {} positions", n, config.max_position_embeddings);
  }
  const autograd::NoGrad guard;
  std::vector<std::int32_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), 0);
  nn::StepContext context;
  context.positions = Tensor::of<std::int32_t>(positions, {n});
  context.segments = std::make_shared<const std::vector<std::int32_t>>(std::vector{0, static_cast<std::int32_t>(n)});
  const Tensor hidden = (*model)(Tensor::of<std::int32_t>(ids, {n}), context);
  const std::vector<train::NamedTensor> out{{"logits", model->logits(hidden).to(Dtype::f32)}};
  train::write_safetensors(options.out, out);
  options.report.print(fmt::format("{}: logits f32 [{}, {}]\n", options.out, n, config.vocab_size),
                       {{"path", options.out}, {"tokens", n}, {"vocab_size", config.vocab_size}});
  return 0;
}

// --prompt, each time it is given, then the lines of --prompts that aren't empty.
std::vector<std::string> prompts_of(const ModelOptions& options) {
  std::vector<std::string> prompts = options.prompts;
  if (!options.prompts_file.empty()) {
    std::istringstream lines(read_text(options.prompts_file));
    for (std::string line; std::getline(lines, line);) {
      if (line.ends_with('\r')) line.pop_back();
      if (!line.empty()) prompts.push_back(line);
    }
  }
  if (prompts.empty()) fail_user("generate: no prompt; give --prompt TEXT, or --prompts FILE with one in each line");
  for (const auto& prompt : prompts) {
    if (const auto valid = data::utf8_valid_prefix(prompt); valid != prompt.size())
      fail_user("{}: not UTF-8 at byte {}",
                prompts.size() == 1 ? "--prompt" : "prompt '" + prompt.substr(0, valid) + "'", valid);
  }
  return prompts;
}

int generate(const ModelOptions& options) {
  const auto prompts = prompts_of(options);
  const auto tokenizer = open_tokenizer(options.model);
  const auto model = options.load();
  const auto& config = model->config();
  const std::int32_t start = tokenizer->bos_id() >= 0 ? tokenizer->bos_id() : tokenizer->eos_id();
  std::vector<std::vector<std::int32_t>> ids;
  for (const auto& prompt : prompts) {
    ids.push_back(tokenizer->encode(prompt));
    if (start >= 0) ids.back().insert(ids.back().begin(), start);  // a text begins after another's end, as in training
    if (ids.back().empty()) fail_user("--prompt: empty, and the model has no token to begin with");
  }
  const std::vector<std::int32_t> stop(config.eos_token_ids.begin(), config.eos_token_ids.end());

  FILE* stream = options.report.json() ? stderr : stdout;
  const auto show = [&](const std::string& piece) {
    std::fwrite(piece.data(), 1, piece.size(), stream);
    std::fflush(stream);
  };
  const bool alone = prompts.size() == 1;  // then the text appears as it is made
  if (alone) show(prompts[0]);
  auto texts = nlohmann::json::array();
  std::size_t tokens = 0;
  const Progress clock;
  for (std::size_t begin = 0; begin < prompts.size(); begin += options.batch) {
    const auto group = std::span(ids).subspan(begin, std::min(options.batch, ids.size() - begin));
    std::vector<data::StreamDecoder> decoders(group.size(), data::StreamDecoder(*tokenizer));
    std::vector<std::string> made(group.size());
    auto settings = options.generate;
    settings.seed += begin;
    const auto put = [&](std::size_t i, const std::string& piece) {
      made[i] += piece;
      if (alone) show(piece);
    };
    const auto made_ids = train::generate_batch(*model, group, stop, settings, [&](std::size_t i, std::int32_t id) {
      put(i, decoders[i].push(id));
      return true;
    });
    for (std::size_t i = 0; i < group.size(); ++i) {
      put(i, decoders[i].finish());
      show(alone ? "\n" : prompts[begin + i] + made[i] + "\n");
      tokens += made_ids[i].size();
      texts.push_back(
          {{"prompt", prompts[begin + i]}, {"text", made[i]}, {"ids", made_ids[i]}, {"tokens", made_ids[i].size()}});
    }
  }
  if (options.report.json()) {
    nlohmann::json object = alone ? texts[0] : nlohmann::json{{"texts", texts}, {"tokens", tokens}};
    object["tokens_per_s"] = static_cast<double>(tokens) / clock.seconds();
    options.report.print("", object);
  }
  return 0;
}

}  // namespace

void add_model(CLI::App& app, Action& action) {
  auto options = std::make_shared<ModelOptions>();
  const std::string example_model = "runs/quickstart/checkpoints/step-001000";

  auto* scoring = subcommand(app, "eval", "How well a model predicts a text",
                             "dujiang eval " + example_model + " --text runs/quickstart/data/held_out.txt --json");
  options->add_to(*scoring);
  scoring->add_option("--text", options->text, "UTF-8 text as one document, or .jsonl with a document a line")
      ->required();
  scoring->add_option("--window", options->score.window, "Tokens the model sees at once; 0: all its positions")
      ->check(CLI::NonNegativeNumber);
  scoring->add_option("--stride", options->score.stride, "Tokens scored per window; 0: half a window")
      ->check(CLI::NonNegativeNumber);
  scoring->callback([=, &action] { action = [=] { return eval(*options); }; });

  auto* raw = subcommand(app, "logits", "Logits of a token sequence, for comparison with other implementations",
                         "dujiang logits " + example_model + " --tokens \"1,2,3\" --out logits.safetensors");
  options->add_to(*raw);
  raw->add_option("--tokens", options->tokens, "Token ids between commas or spaces")->required();
  raw->add_option("--out", options->out, "The safetensors file to write: logits, f32 [tokens, vocabulary]")->required();
  raw->callback([=, &action] { action = [=] { return logits(*options); }; });

  auto* writing = subcommand(app, "generate", "Continue a text",
                             "dujiang generate " + example_model + " --prompt 你好 --temperature 0.8 --top-p 0.9");
  options->add_to(*writing);
  auto& settings = options->generate;
  writing->add_option("--prompt", options->prompts, "The text to continue; several times for several texts")
      ->allow_extra_args(false);
  writing->add_option("--prompts", options->prompts_file, "A UTF-8 file with a prompt in each line; - for stdin");
  writing->add_option("--batch", options->batch, "So many texts are continued at once; prompt i draws with seed + i")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  writing->add_option("--max-new-tokens", settings.max_new_tokens, "At most so many new tokens")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  writing->add_option("--temperature", settings.temperature, "0: always the likeliest token")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  writing->add_option("--top-k", settings.top_k, "Only the k likeliest; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  writing->add_option("--top-p", settings.top_p, "Only the likeliest that reach this share together")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  writing->add_option("--repetition-penalty", settings.repetition_penalty, "Above 1: seen tokens become less likely")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  writing->add_option("--seed", settings.seed, "Equal seeds give equal texts")->capture_default_str();
  writing->callback([=, &action] { action = [=] { return generate(*options); }; });
}

}  // namespace dujiang::launch
