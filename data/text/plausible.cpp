#include "data/text/plausible.h"

#include <array>
#include <string_view>

#include "data/text/utf8.h"

namespace dujiang::data {
namespace {

// Commonest in modern prose and in classical verse, in both scripts.
constexpr std::string_view frequent =
    "，。、；：？！“”‘’（）《》〈〉「」『』【】—…·　０１２３４５６７８９％"
    "一万三上下不与且世业东两並个中丹为主久么义之九也习书了争事二于云五些交亦"
    "产亭亲人什今从他仙代令以们件任份休优会传似但位住体何作你使來例供依便俗保"
    "信修俺個們候倚值做備储傳像僧優儲儿元先光克兒入內全兩公六兮共关其具内再写"
    "军决况冷凉几凤出函分切划列则创初別利别到制則前創劃力功加务动動務勝包化北"
    "区區十千升半华单南即却卷卻原去参參又及双反发取受变口古句只可台叶司各合同"
    "名后向君吟否含听启吹吾告员命和品員哥唱問啓喜單器四回因国图國園圖在地场均"
    "坐垂型城執基堂堪報場塵增士声壽处备复夕外多夜夢大天太夫失头奇女她好如妆妝"
    "始子字存孤学學它安完官定实客宫宮家容寂寄密寒實寫对寻导寿将將尋對導小少尔"
    "尘尚就尽层居屋展層山岁峰巖川州工己已市布师帘带師帶常平年并幽幾序库应度庫"
    "庭建开式引张張強强归当录形影往待很後得從復微德心必志忘忽态怎怕思性总恢恨"
    "息悲情惊惟想愁意愛感態憂憐憶應懷成我或战戰戶户所手才打执把报拉持指换据接"
    "控推提換操據支改放政故效教散数整數文斜断斯新斷方於无日旦旧早时明易昔星春"
    "是時晓晚景晴暗暮曉曲更書曾最會月有服望朝期木未末本术机权条来東松构林果枝"
    "架查柳标样根格桃框档梅條梦检業楼構樂樓標模樣樹機橫檔檢權次欢欲歌歡正此步"
    "歲歸死残殘段每比民气氣水求江池決沒沙没河治況泉法波注泪活流测浮海消涼淚深"
    "清測游湖源溪满滿漢火点烟無然煙照燈燕爭爲爾版物特状犹狀猶獨獲率玉王环现現"
    "理環甚生產用田由电画界留畫當疏病登發白百的皆盡目直相眉看真眼着知石码破确"
    "碧確碼示社神离秋种科积移程種積空窗窮立端竹笑符第筆等算管節範簾类系紅級紛"
    "索紫細終組結絕絡給統經綠維網線編練總红级线练组细经结给络统维绿编网罗置署"
    "羅美羣群義翁習翠老考者而聖聞聲聽能臨自至致臺與興舊舞舟色节花芳若苦范草莫"
    "获華萬落葉著蒼蕭處虛行術衣表被裏西要見規親覺觀见观规觉解言計訓記設許詢試"
    "詩話該認語誤說誰調請論諸證識議讀變讓计认让训议记许论设证识试诗话询该语误"
    "说请读谁调豈象資賢资走起足路身車軍較載輕輸轉转轻载较输边达迁过运近返还这"
    "进远连送选這通速逢連進遊運過道達遠遷選遺還邊那部都鄉配酒醉里重野量金錄錦"
    "錯鍵错锦键長长門開閑閒間闌關门问闲间阑队阳阴限院除陰陽隊随隨难集雖雙離難"
    "雨雪雲電需霜露靈青靜非面項須預領頭題類项须预领题風风飛飞食餘首香馬驗驚马"
    "验體高魚鳥鳳鳴鶴麼黃黄默點龍龙";

std::array<std::int8_t, 0x10000> make_weights() {
  std::array<std::int8_t, 0x10000> out{};
  const auto set = [&](char32_t first, char32_t last) {
    for (char32_t c = first; c <= last; ++c) out[c] = -1;
  };
  set(0x00, 0x08);  // controls
  set(0x0E, 0x1A);
  set(0x7F, 0x9F);
  set(0x0100, 0x036F);  // letters of Latin's fringe
  set(0x0400, 0x20FF);  // from Cyrillic to letters of no Chinese page; punctuation within is set below
  set(0x2010, 0x206F);
  set(0x3041, 0x318E);  // kana, bopomofo, Hangul letters
  set(0x3400, 0x4DBF);  // Han of extension A
  set(0xA000, 0xFAFF);  // Yi to Hangul, surrogates, private use, compatibility ideographs
  set(0xFB00, 0xFDFF);
  set(0xFE70, 0xFEFE);
  set(0xFF61, 0xFFDF);  // half-width kana and Hangul
  set(0xFFF0, 0xFFFF);
  for (std::size_t pos = 0; pos < frequent.size();) out[next_char(frequent, pos)] = 1;
  return out;
}

}  // namespace

int plausibility(char32_t c) {
  static const std::array<std::int8_t, 0x10000> weights = make_weights();
  return c < 0x10000 ? weights[c] : -1;
}

}  // namespace dujiang::data
