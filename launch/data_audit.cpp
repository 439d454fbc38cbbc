// dujiang data audit: what a review of the corpus asks for.
//
// TC260-003 (Basic security requirements for generative AI services) asks of training text: where it came from, with
// which licence and share; that keyword or model checks cover at least 10 % of it and at least 98 % of that pass; that
// people look at no fewer than 4,000 random samples and find at least 96 % sound. The report says the first two from
// the build's account, which covers all of the text, draws the samples, and counts the verdicts once they are in.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "data/corpus/pipeline/ledger.h"
#include "data/loader/permutation.h"
#include "data/shard/dataset.h"
#include "data/tokenizer/tokenizer.h"
#include "framework/base/check.h"
#include "framework/base/files.h"
#include "framework/base/philox.h"
#include "framework/train/config.h"
#include "launch/command.h"
#include "launch/data_commands.h"

namespace dujiang::launch {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

constexpr double least_technical = 0.98, least_manual = 0.96;
constexpr std::int64_t least_samples = 4000;

struct AuditOptions {
  std::string folder, tokenizer, verdicts, config;
  std::int64_t samples = least_samples;
  std::uint64_t seed = 1;
  Report report;
};

double share(double part, double whole) {
  return whole > 0 ? part / whole : 0;
}

bool is_dataset(const std::string& path, const std::string& folder) {
  std::error_code error;
  return fs::equivalent(path, folder, error);
}

json read_build(const fs::path& folder) {
  const fs::path path = folder / "build.json";
  const json build = json::parse(read_text(path.string()), nullptr, false);
  if (!build.is_object() || !build.contains("ledger"))
    fail_user("{}: not the account of a build: build the dataset anew", path.string());
  return build;
}

// The share of what a training reads that comes from a source, by phases of the blend: {from_tokens, rate}.
json sampling_of(const train::DataSection& training, const AuditOptions& options, const json& build,
                 const std::string& source) {
  const double all = build.at("train").at("tokens").get<double>();
  double own = 0;
  for (const json& s : build.at("sources"))
    if (s.at("name") == source) own = share(s.at("train").at("tokens").get<double>(), all);
  if (training.blend.empty()) return json::array({{{"from_tokens", 0}, {"rate", own}}});
  json phases = json::array();
  for (std::size_t p = 0; p <= training.blend_at.size(); ++p) {
    double rate = 0, weights = 0;
    for (const train::BlendSection& part : training.blend) {
      weights += part.weights[p];
      if (!is_dataset(part.path.empty() ? training.path : part.path, options.folder)) continue;
      rate += part.weights[p] * (part.source.empty() ? own : part.source == source ? 1.0 : 0.0);
    }
    phases.push_back({{"from_tokens", p == 0 ? 0 : training.blend_at[p - 1]}, {"rate", rate / weights}});
  }
  return phases;
}

// The training that --for names; without it, one of nothing but this dataset.
train::DataSection training_of(const AuditOptions& options) {
  if (options.config.empty()) return {};
  const train::DataSection training = train::load_config(options.config).data;
  bool reads = training.blend.empty() && is_dataset(training.path, options.folder);
  for (const train::BlendSection& part : training.blend)
    reads = reads || is_dataset(part.path.empty() ? training.path : part.path, options.folder);
  if (!reads) fail_user("{}: its data.path and data.blend don't name {}", options.config, options.folder);
  return training;
}

// Each source: what came in, what stayed, what each rule took.
json sources_of(const AuditOptions& options, const json& build, const data::DatasetInfo& info) {
  const auto ledger = build.at("ledger").get<data::Ledger>();
  const train::DataSection training = training_of(options);
  const double all = build.at("train").at("tokens").get<double>();
  json out = json::array();
  for (std::size_t s = 0; s < ledger.sources(); ++s) {
    const json& source = build.at("sources").at(s);
    const auto& accounts = ledger.of(s);
    std::string digests;  // one of the first build's files, and one of each growth's
    for (const auto& known : info.sources)
      if (known.name == source.at("name")) digests += (digests.empty() ? "" : " ") + known.sha256;
    json rules = json::array();
    for (std::size_t i = 0; i < accounts.size(); ++i)
      for (const auto& [rule, counts] : accounts[i].rules)
        rules.push_back({{"step", ledger.steps()[i]},
                         {"rule", rule},
                         {"documents", counts.documents.documents},
                         {"bytes", counts.documents.bytes + counts.bytes},
                         {"hits", counts.hits}});
    const double in = static_cast<double>(accounts.front().in.documents);
    const double out_documents = static_cast<double>(accounts.back().out.documents);
    out.push_back({{"name", source.at("name")},
                   {"licence", source.at("licence")},
                   {"genre", source.at("genre")},
                   {"sha256", digests},
                   {"documents_in", accounts.front().in.documents},
                   {"documents_kept", accounts.back().out.documents},
                   {"pass_rate", share(out_documents, in)},
                   {"train_tokens", source.at("train").at("tokens")},
                   {"share", share(source.at("train").at("tokens").get<double>(), all)},
                   {"sampling", sampling_of(training, options, build, source.at("name"))},
                   {"rules", rules}});
  }
  return out;
}

// Documents of the training split drawn without repetition, a JSON object a line, with room for a verdict.
std::int64_t write_samples(const AuditOptions& options, const json& build, const fs::path& path) {
  const data::Dataset dataset(options.folder, "train");
  const std::string dir = options.tokenizer.empty() ? build.at("tokenizer").get<std::string>() : options.tokenizer;
  const auto tokenizer = data::load_tokenizer(dir);
  if (tokenizer->sha256() != dataset.info().tokenizer_sha256)
    fail_user("{}: not the tokenizer of {}; name that with --tokenizer", dir, options.folder);
  const std::int64_t count = std::min(options.samples, dataset.documents());
  const data::Permutation order(dataset.documents(), options.seed, stream_of("data/audit"), 0);
  DurableFile out(path);
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t document = order(i);
    const auto place = dataset.locate(document);
    tokens.resize(static_cast<std::size_t>(place.tokens));
    place.shard->read(place.start, place.tokens, tokens.data());
    const std::uint32_t source = place.shard->doc_sources()[static_cast<std::size_t>(place.document)];
    const ordered_json line = {{"sample", i},
                               {"document", document},
                               {"source", place.shard->info().sources[source].name},
                               {"licence", place.shard->info().sources[source].licence},
                               {"verdict", ""},
                               {"text", tokenizer->decode(tokens)}};
    out.write(line.dump(-1, ' ', false, json::error_handler_t::strict) + "\n");
  }
  out.commit();
  return count;
}

// Lines of the samples with "verdict": "pass" or "fail".
json count_verdicts(const std::string& path) {
  std::ifstream in(path);
  if (!in) fail_user("{}: can't be read", path);
  std::int64_t passed = 0, failed = 0, open = 0, number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    const json sample = json::parse(line, nullptr, false);
    const std::string verdict = sample.is_object() ? sample.value("verdict", "?") : "?";
    if (verdict == "pass")
      ++passed;
    else if (verdict == "fail")
      ++failed;
    else if (verdict.empty())
      ++open;
    else
      fail_user("{}: line {}: \"verdict\" is pass, fail or empty, found {}", path, number, line.substr(0, 80));
  }
  const double rate = share(static_cast<double>(passed), static_cast<double>(passed + failed));
  return {{"passed", passed},
          {"failed", failed},
          {"open", open},
          {"pass_rate", rate},
          {"enough", passed + failed >= least_samples && rate >= least_manual}};
}

std::string percent(const json& value) {
  return fmt::format("{:.2f} %", value.get<double>() * 100);
}

// "20.00 %", or "20.00 % → 5.00 %" where a blend changes.
std::string rates(const json& phases) {
  std::string text;
  for (const json& phase : phases) text += (text.empty() ? "" : " → ") + percent(phase["rate"]);
  return text;
}

std::string about_sampling(const AuditOptions& options, const json& phases) {
  if (options.config.empty())
    return "采样比例：没有指定训练配置（--for），按每轮全部训练 token 各用 1.0 遍计，即占比。\n";
  std::string text = fmt::format("采样比例：按 `{}` 训练时读到的 token 中来自该来源的份额", options.config);
  for (std::size_t p = 1; p < phases.size(); ++p)
    text +=
        fmt::format("{}自第 {} 个 token 起换用第 {} 个", p == 1 ? "；" : "，", phases[p]["from_tokens"].dump(), p + 1);
  return text + "。\n";
}

std::string evaluation_table(const json& files) {
  if (files.empty()) return "没有配置评测文本（data.contamination）。\n";
  std::string text = "| 评测文件 | 条目 | 过短而无法比对 | 在输入中遇到 |\n|---|---|---|---|\n";
  for (const json& file : files)
    text += fmt::format("| `{}` | {} | {} | {} |\n", file["file"].get<std::string>(), file["items"].dump(),
                        file["too_short"].dump(), file["met"].dump());
  return text;
}

std::string markdown(const AuditOptions& options, const json& audit) {
  std::string text = fmt::format(
      "# 训练语料审查报告\n\n数据集：`{}`，训练 {} 篇、{} 个 token，留出 {} "
      "篇。每个数字都来自构建时的账目（build.json），"
      "覆盖全部文本。\n\n## 来源\n\n| 来源 | 许可 | 体裁 | 输入篇数 | 保留篇数 | 通过率 | 占比 | 采样比例 | "
      "SHA-256 |\n"
      "|---|---|---|---|---|---|---|---|---|\n",
      options.folder, audit["train"]["documents"].dump(), audit["train"]["tokens"].dump(),
      audit["held_out"]["documents"].dump());
  for (const json& s : audit["sources"])
    text +=
        fmt::format("| {} | {} | {} | {} | {} | {} | {} | {} | `{:.16}` |\n", s["name"].get<std::string>(),
                    s["licence"].get<std::string>().empty() ? "**未注明**" : s["licence"].get<std::string>(),
                    s["genre"].get<std::string>(), s["documents_in"].dump(), s["documents_kept"].dump(),
                    percent(s["pass_rate"]), percent(s["share"]), rates(s["sampling"]), s["sha256"].get<std::string>());
  text += "\n" + about_sampling(options, audit["sources"][0]["sampling"]);
  text += "\n## 评测文本\n\n" + evaluation_table(audit["evaluations"]);
  text += "\n## 各规则的计数\n\n| 来源 | 步骤 | 规则 | 剔除篇数 | 字节 | 命中 |\n|---|---|---|---|---|---|\n";
  for (const json& s : audit["sources"])
    for (const json& r : s["rules"])
      text +=
          fmt::format("| {} | {} | {} | {} | {} | {} |\n", s["name"].get<std::string>(), r["step"].get<std::string>(),
                      r["rule"].get<std::string>(), r["documents"].dump(), r["bytes"].dump(), r["hits"].dump());
  text += fmt::format(
      "\n## 技术抽检（不少于 10 %，合格率不低于 {:.0f} %）\n\n{}个人信息规则检查了到达该步的全部 {} 篇：剔除 {} "
      "篇，在保留的"
      "文本里遮盖、删去或计数 {} 处（处置见配置）；未被剔除的占 {}。\n\n## 人工抽检（不少于 {} 条，合格率不低于 {:.0f} "
      "%）\n\n",
      least_technical * 100, audit["technical"]["word_lists"].get<bool>() ? "敏感词表与" : "**没有配置敏感词表。**",
      audit["technical"]["checked"].dump(), audit["technical"]["rejected"].dump(), audit["technical"]["hits"].dump(),
      percent(audit["technical"]["pass_rate"]), least_samples, least_manual * 100);
  if (audit.contains("samples"))
    text += fmt::format(
        "从训练集中无重复随机抽取 {} 篇（种子 {}）：`audit-samples.jsonl`。审查人在 `verdict` 一栏填 "
        "pass 或 fail，再运行 `dujiang data audit {} --verdicts audit-samples.jsonl`。\n",
        audit["samples"].dump(), options.seed, options.folder);
  if (audit.contains("manual"))
    text +=
        fmt::format("已审 {} 条通过、{} 条不通过、{} 条未审；合格率 {}：{}。\n", audit["manual"]["passed"].dump(),
                    audit["manual"]["failed"].dump(), audit["manual"]["open"].dump(),
                    percent(audit["manual"]["pass_rate"]), audit["manual"]["enough"].get<bool>() ? "符合" : "不符合");
  return text;
}

int audit(const AuditOptions& options) {
  if (options.samples < 1) fail_user("--samples must be at least 1, found {}", options.samples);
  const fs::path folder = options.folder;
  const json build = read_build(folder);
  const data::Manifest manifest = data::read_manifest(folder);
  const auto ledger = build.at("ledger").get<data::Ledger>();
  json out = {{"train", build.at("train")},
              {"held_out", build.at("held_out")},
              {"sources", sources_of(options, build, manifest.info)},
              {"evaluations", evaluations_met(build)}};
  // The two steps that look for what must not be there.
  data::Counts checked, rejected;
  std::int64_t hits = 0;
  bool word_lists = false;
  for (std::size_t i = 0; i < ledger.steps().size(); ++i) {
    if (ledger.steps()[i] != "words" && ledger.steps()[i] != "privacy") continue;
    const auto total = ledger.total(i);
    word_lists = word_lists || ledger.steps()[i] == "words";
    if (checked.documents == 0) checked = total.in;
    for (const auto& [rule, counts] : total.rules) {
      rejected += counts.documents;
      if (rule.find(':') == rule.npos) hits += counts.hits;  // NAME:WORD is a part of NAME
    }
  }
  out["technical"] = {{"checked", checked.documents},
                      {"rejected", rejected.documents},
                      {"hits", hits},
                      {"word_lists", word_lists},
                      {"pass_rate", share(static_cast<double>(checked.documents - rejected.documents),
                                          static_cast<double>(checked.documents))}};
  if (options.verdicts.empty())
    out["samples"] = write_samples(options, build, folder / "audit-samples.jsonl");
  else
    out["manual"] = count_verdicts(options.verdicts);
  const std::string text = markdown(options, out);
  write_file(folder / "audit.md", text);
  options.report.print(fmt::format("{}\n", (folder / "audit.md").string()), out);
  return 0;
}

}  // namespace

void add_data_audit(CLI::App& group, Action& action) {
  auto options = std::make_shared<AuditOptions>();
  auto* command =
      subcommand(group, "audit", "The report that a review of training text asks for: licences, shares, rules, samples",
                 "dujiang data audit runs/quickstart/data --samples 4000");
  command->add_option("DIR", options->folder, "A dataset")->required();
  command->add_option("--for", options->config,
                      "A training's config, whose data.blend gives the sources' sampling rates; none: their shares");
  command->add_option("--samples", options->samples, "Documents drawn for people to look at");
  command->add_option("--seed", options->seed, "Of the draw");
  command->add_option("--tokenizer", options->tokenizer,
                      "The dataset's tokenizer, where it no longer lies where it did");
  command->add_option("--verdicts", options->verdicts,
                      "The samples with \"verdict\" filled in: counts them instead of drawing anew");
  options->report.add_option(*command);
  command->callback([=, &action] { action = [=] { return audit(*options); }; });
}

}  // namespace dujiang::launch
