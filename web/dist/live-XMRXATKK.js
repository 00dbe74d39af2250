import{b as a,c as b}from"./chunk-JP6GNUOD.js";import"./chunk-7QB3BOAG.js";import"./chunk-26WC5L7M.js";import"./chunk-MEQKGGHQ.js";import"./chunk-HR7TGT6X.js";export{b as page,a as worklet};
