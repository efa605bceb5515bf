"""Tools for travel, money and knowledge. A domain that ends with ! is what plain answers
cover as well: such a tool never stands beside a question that is to be answered without one."""

from __future__ import annotations

from training.families.tool_shapes import Param, Tool

MORE_TOOLS: tuple[Tool, ...] = (
    Tool(
        "flights",
        "search_flights|find_flights|get_flights|flight_search",
        "Search flights between two cities|Find flights from one city to another",
        (
            Param("origin|from|from_city|departure", "city"),
            Param("destination|to|to_city|arrival", "city"),
            Param("date|day|on", "date", "The date"),
        ),
        "Find flights from {a} to {b}.|I want to fly from {a} to {b} on {c}.|Which flights go from "
        "{a} to {b} on {c}?|Flights from {a} to {b}, please.|Flights {a} to {b} on {c}|Search a "
        "flight from {a} to {b} on {c}.|Is there a flight from {a} to {b}?|Show me flights from {a}"
        " to {b} on {c}.|I am in {a} and want to fly to {b}.",
        "Search flights from {a} to {b}.|Show me flights from {a} to {b}.|Find a flight from {a} to"
        " {b} on {c}.",
        "flights:list:code",
    ),
    Tool(
        "hotel",
        "book_hotel|reserve_hotel|hotel_booking|book_room",
        "Book a hotel room in a city|Reserve a hotel",
        (
            Param("city|location|place", "city"),
            Param("nights|num_nights|duration", "int:1:14"),
            Param("check_in|date|start_date|arrival", "date"),
        ),
        "Book a hotel in {a} for {b} nights.|I need a hotel in {a} for {b} nights from {c}.|Reserve"
        " a hotel room in {a} on {c} for {b} nights.|{b} nights in a hotel in {a}, please.|Get me a"
        " room in {a} for {b} nights from {c}.|We stay {b} nights in {a}. Book a hotel.|Can you "
        "book a hotel in {a} for {b} nights?",
        "Reserve a hotel in {a} for {b} nights.|Book me a room in {a} for {b} nights from {c}.|I "
        "need a hotel room in {a} for {b} nights.",
        "booking:code",
    ),
    Tool(
        "taxi",
        "order_taxi|call_taxi|book_taxi|get_cab|request_ride",
        "Order a taxi|Request a ride to a place",
        (Param("destination|to|place|address", "city"), Param("time|at|when", "time")),
        "Order a taxi to {a}.|I need a cab to {a} at {b}.|Taxi to {a}, please.|Get me a taxi to {a}"
        " at {b}.|Call a taxi to {a}.|I need a ride to {a}.|Can you book a taxi to {a} for {b}?",
        "I need a taxi to {a}.|Order a cab to {a} at {b}.|Call me a taxi to {a}, please.",
        is_kept_back=True,
        bare="I need a taxi.|Order a taxi, please.|Get me a cab.",
        kept_bare="Call me a taxi.",
    ),
    Tool(
        "route",
        "get_directions|find_route|route|navigate|directions",
        "Get directions between two places|Find the way from one place to another",
        (
            Param("start|from|origin|from_place", "city"),
            Param("end|to|destination|to_place", "city"),
            Param("mode|by|transport", "enum:car,train,bike,bus"),
        ),
        "How do I get from {a} to {b}?|Show me the way from {a} to {b}.|Directions from {a} to {b} "
        "by {c}.|What is the route from {a} to {b}?|How do I get from {a} to {b} by {c}?|Take me "
        "from {a} to {b} by {c}.|Which way is it from {a} to {b} by {c}?|Find the way from {a} to "
        "{b}.",
        "Show me the route from {a} to {b}.|What is the way from {a} to {b} by {c}?|Directions from"
        " {a} to {b}, please.",
        "distance_km:int:3:990 minutes:int:5:800",
    ),
    Tool(
        "exchange",
        "convert_currency|exchange_money|currency_converter|convert_money",
        "Convert an amount of money|Convert between currencies",
        (
            Param("amount|value|sum", "number:1:900"),
            Param("from|from_currency|source|base", "currency"),
            Param("to|to_currency|target", "currency"),
        ),
        "Convert {a} {b} to {c}.|How much is {a} {b} in {c}?|What is {a} {b} in {c}?|Change {a} {b}"
        " into {c}.|{a} {b} in {c}|I have {a} {b}. How much is that in {c}?|{a} {b} to {c}, please."
        "|How many {c} do I get for {a} {b}?",
        "Change {a} {b} to {c}.|How much {c} do I get for {a} {b}?|What do I get for {a} {b} in "
        "{c}?",
        "amount:number:1:990",
    ),
    Tool(
        "stocks",
        "get_stock_price|stock_price|stock_quote|get_share_price",
        "Get the price of a stock|Current price of a company's shares",
        (Param("symbol|ticker|stock|company", "made_up"),),
        "What is the stock price of {a}?|How much is a share of {a}?|Stock price of {a}?|How is the"
        " {a} stock doing?|Price of {a} shares?|What does one share of {a} cost?|Get me the stock "
        "price of {a}.|Show the share price of {a}.",
        "What is the share price of {a}?|How much does one share of {a} cost?|Show me the stock "
        "price of {a}.",
        "price:number:1:900",
        bare="What is the stock price?|How much is a share?|Show me the stock price.",
        kept_bare="What is the share price?",
    ),
    Tool(
        "pay",
        "transfer_money|send_money|pay_person|make_payment|transfer",
        "Transfer money to a person|Send money to somebody",
        (
            Param("to|recipient|name|person|payee", "name"),
            Param("amount|sum|value", "number:1:900"),
            Param("currency|unit", "currency"),
        ),
        "Pay {a} {b} {c}.|Send {b} {c} to {a}.|Transfer {b} {c} to {a}.|I owe {a} {b} {c}. Pay it "
        "back.|{a} gets {b} {c} from me, please send it.|Give {a} {b} {c} from my account.|Can you "
        "transfer {b} {c} to {a}?",
        "Please send {a} {b} {c}.|Can you pay {a} {b} {c}?|Transfer {a} {b} {c}.",
    ),
    Tool(
        "balance",
        "get_balance|account_balance|check_balance|show_balance",
        "Get the balance of the user's account|How much money is in the account",
        (),
        "How much money do I have?|What is my balance?|Show my account balance.|How much is in my "
        "account?|my balance|Check my balance, please.|Am I rich?|How much money is left in my "
        "account?",
        "What is my account balance?|Show me my balance.|How much money do I have in my account?",
        "balance:number:10:9000",
    ),
    Tool(
        "calculator!",
        "calculate|calculator|compute|evaluate|eval_expression",
        "Evaluate an arithmetic expression|Compute a result|A calculator",
        (Param("expression|formula|input|expr", "sum"),),
        "What is {a}?|Calculate {a}.|Compute {a}.|How much is {a}?|{a}|{a} = ?|Work out {a}, "
        "please.|Can you calculate {a}?|What does {a} give?|I need the result of {a}.|"
        "Evaluate {a}.",
        "Can you compute {a}?|Please work out {a}.|What is the result of {a}?",
        "result:int:1:9999",
    ),
    Tool(
        "translate",
        "translate|translate_text|translator|translation",
        "Translate a text|Translate text into another language",
        (
            Param("text|sentence|content|input", "text"),
            Param("language|to|target|target_language", "language"),
        ),
        'Translate "{a}" into {b}.|How do you say "{a}" in {b}?|"{a}" in {b}, please.|What is'
        ' "{a}" in {b}?|Put "{a}" into {b}.|Translate into {b}: {a}|Say "{a}" in {b}.|I need '
        '"{a}" in {b}.|Please translate to {b}: {a}',
        'Can you translate "{a}" to {b}?|How do I say "{a}" in {b}?|Please put "{a}" into {b}.',
        "translation:made_up",
    ),
    Tool(
        "dictionary!",
        "define_word|define|get_definition|dictionary|lookup_word",
        "Get the definition of a word|Look up a word in the dictionary",
        (Param("word|term|w|entry", "word"),),
        "What does {a} mean?|Define {a}.|Look up the word {a}.|What is the meaning of {a}?|Meaning "
        "of {a}?|Give me the definition of {a}.|Explain the word {a}.|What does the word {a} mean?",
        "Look up the meaning of {a}.|What is the definition of {a}?|Define the word {a}.",
        "definition:topic",
    ),
    Tool(
        "search!",
        "web_search|search_web|search|google|search_internet|internet_search",
        "Search the web|Search the internet for something|Web search",
        (Param("query|q|text|search_query", "topic"),),
        "Search the web for {a}.|Google {a}.|Look up {a} on the internet.|Find web pages about {a}."
        "|Search the internet for {a}.|What does the internet say about {a}?|Do a web search for "
        "{a}.|Look for {a} online.|search for {a}",
        "Look for {a} on the web.|Do a search for {a} on the internet.|Search online for {a}.",
        "results:list:title",
    ),
    Tool(
        "news",
        "get_news|latest_news|news|headlines|fetch_news",
        "Get the latest news about a topic|News headlines on a topic",
        (Param("topic|subject|about|category", "topic"),),
        "What is the news about {a}?|Latest news on {a}?|News about {a}, please.|Any news on {a}?|"
        "What is new in {a}?|Show me headlines about {a}.|Give me the latest news about {a}.|What "
        "happened in {a} lately?",
        "Show me the news about {a}.|Is there news on {a}?|Give me headlines on {a}.",
        "headlines:list:title",
        is_kept_back=True,
    ),
)
